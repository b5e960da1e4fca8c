//! How long a text may be that a server or a file puts into an error.

use std::error::Error;
use std::fmt;

/// The longest text, in bytes, that an error takes over from a server, a file or a driver. With its operation
/// and key an error stays below 4 KiB. A hostile server could otherwise fill the memory and the logs of its
/// clients with its refusals.
pub const MAX_ERROR_TEXT: usize = 3 << 10;

const MARKER: &str = " [cut]";

/// The text, cut at [`MAX_ERROR_TEXT`] on a character boundary, with a marker.
#[must_use]
pub fn cut_error_text(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > MAX_ERROR_TEXT {
        let most = MAX_ERROR_TEXT - MARKER.len();
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push_str(MARKER);
        text.shrink_to_fit();
    }
    text
}

/// The error, or its text where that or the text of one of its sources is over [`MAX_ERROR_TEXT`].
pub fn cut_error_source(
    error: impl Into<Box<dyn Error + Send + Sync>>,
) -> Box<dyn Error + Send + Sync> {
    let error = error.into();
    let is_long = |error: &(dyn Error + 'static)| error.to_string().len() > MAX_ERROR_TEXT;
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(one) = cause {
        if is_long(one) {
            return Box::new(CutError(cut_error_text(error.to_string())));
        }
        cause = one.source();
    }
    error
}

/// An error whose text was cut.
#[derive(Debug)]
struct CutError(String);

impl fmt::Display for CutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for CutError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut_error_text("short"), "short");
        let fits = "x".repeat(MAX_ERROR_TEXT);
        assert_eq!(cut_error_text(fits.clone()), fits);
        for letter in ["x", "é", "語", "😀"] {
            let cut = cut_error_text(letter.repeat(1 << 20));
            assert!(
                cut.len() <= MAX_ERROR_TEXT && cut.len() > MAX_ERROR_TEXT - 16,
                "{}",
                cut.len()
            );
            assert!(cut.starts_with(letter) && cut.ends_with(MARKER));
            assert!(cut.capacity() < 2 * MAX_ERROR_TEXT, "the rest is freed");
        }
    }

    #[test]
    fn sources_are_cut_wherever_the_text_is_long() {
        #[derive(Debug)]
        struct Outer(CutError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let kept = cut_error_source(Outer(CutError("inner".into())));
        assert_eq!(kept.source().unwrap().to_string(), "inner");
        let cut = cut_error_source(Outer(CutError("x".repeat(5_000))));
        assert!(cut.source().is_none());
        assert_eq!(cut.to_string(), "outer");
        assert!(cut_error_source("y".repeat(5_000)).to_string().ends_with(MARKER));
    }
}
