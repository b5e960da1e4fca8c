//! Prices of media, by provider, detail and size.

mod header;

use serde::{Deserialize, Serialize};

use self::header::{byte_rate, decode, image_size};
use super::TokenCounter;
use crate::dialect::{MediaKind, MediaPart, MediaSource};
use crate::model_name::{Family, ModelName};

/// `media_tokens` of a resource: prices in tokens that replace those of the model's provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaTokens {
    /// An image of any size, unless its detail is low. Default: by the provider's formula.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u32>,
    /// An image of low detail. Default: 85, or the provider's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_low: Option<u32>,
    /// A second of audio. Default: 10 for OpenAI's models, else 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_per_second: Option<u32>,
    /// A second of video. Default: 263.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_per_second: Option<u32>,
    /// A page of a document that is not text. Default: 1,500 for OpenAI's models, 258 or 560 for Gemini, else 2,300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdf_page: Option<u32>,
}

impl MediaTokens {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Prices of media in tokens.
///
/// # Images
/// By the formula of the model's provider, from the size that the message states or the header of the data contains
/// (PNG, JPEG, GIF, WebP). An image of unknown size, such as one at a URL, counts as 1024 x 1024 pixels; without a
/// known model as 1,300 tokens. Without a `detail` it counts as high.
///
/// | models | formula | 1024 x 1024 |
/// | --- | --- | --- |
/// | gpt-4o, 4.1, 4.5, 4-turbo | 85 + 170 for each tile of 512 pixels, fitted into 2048 and to a short side of 768 | 765 |
/// | gpt-4o-mini | 2,833 + 5,667 | 25,501 |
/// | o1, o3 | 75 + 150 | 675 |
/// | gpt-5, 5.1 | 70 + 140 | 630 |
/// | gpt-4.1-mini, gpt-5-mini, o4-mini and nano | patches of 32 pixels, at most 1,536, x 1.62, 1.72 and 2.46 | 1,659, 1,761, 2,519 |
/// | gpt-5.2 and later | patches x 1.2, at most 2,500, or 10,000 with detail `auto` or `original` | 1,229 |
/// | Claude | patches of 28 pixels, fitted into 1,568 and at most 1,568 tokens; from Opus 4.7 on 2,576 and 4,784 | 1,369 |
/// | Gemini to 2.x | 258 for each tile of 768 pixels; one if both sides are at most 384 | 1,032 |
/// | Gemini 3 and later | 1,120, 560 or 280 by detail | 1,120 |
/// | Llama | 1,601 for each tile of 560 pixels, at most 4 | 6,404 |
/// | Qwen | patches of 28 pixels, 4 to 16,384 | 1,369 |
/// | DeepSeek | 384 | 384 |
/// | others | patches of 28 pixels, 258 to 1,568 | 1,369 |
///
/// Sources: the vision guides of OpenAI, Anthropic and Google; measurements of third parties for gpt-5.2 and later,
/// Llama and DeepSeek.
///
/// # Audio and video
/// By the duration that the message states, by the header of WAV data, or by the size of the data: 16,000 bytes a
/// second of compressed audio, 48,000 of `pcm16`, 250,000 of video. At a URL, audio counts as 30 seconds and video as
/// 10.
///
/// # Documents
/// By pages: one for each 50,000 bytes of data, at least one. A document whose content is text, also in base64,
/// counts by its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPrices {
    formula: Formula,
    image: Option<u32>,
    image_low: u32,
    audio_per_second: u32,
    video_per_second: u32,
    pdf_page: u32,
}

/// The formula that computes the price of an image from its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Formula {
    Unknown,
    Tiles {
        base: u32,
        tile: u32,
    },
    /// Patches times a factor in hundredths.
    Patches {
        most: u64,
        most_of_original: u64,
        percent: u64,
    },
    Claude {
        edge: u64,
        most: u64,
    },
    GeminiTiles,
    GeminiLevels,
    Llama,
    Qwen,
    DeepSeek,
}

/// An image of low detail for OpenAI's tile models.
const IMAGE_LOW: u32 = 85;
/// An image of unknown size for an unknown model: between Claude's and OpenAI's price of 1024 x 1024 pixels.
const IMAGE: u32 = 1_300;
const ASSUMED_SIZE: (u64, u64) = (1024, 1024);
/// Google's documentation of tokens.
const AUDIO_PER_SECOND: u32 = 32;
const VIDEO_PER_SECOND: u32 = 263;
/// Measured with Claude, whose documentation states 1,500 to 3,000 for the text alone.
const PDF_PAGE: u32 = 2_300;
const BYTES_PER_PAGE: u64 = 50_000;
/// 128 kbit/s and 2 Mbit/s.
const AUDIO_BYTES_PER_SECOND: u64 = 16_000;
const VIDEO_BYTES_PER_SECOND: u64 = 250_000;
const AUDIO_SECONDS: u64 = 30;
const VIDEO_SECONDS: u64 = 10;

impl Default for MediaPrices {
    /// The prices of an unknown model.
    fn default() -> Self {
        Self {
            formula: Formula::Unknown,
            image: None,
            image_low: IMAGE_LOW,
            audio_per_second: AUDIO_PER_SECOND,
            video_per_second: VIDEO_PER_SECOND,
            pdf_page: PDF_PAGE,
        }
    }
}

impl MediaPrices {
    /// The prices of the provider of this model.
    #[must_use]
    pub fn for_model(model: &str) -> Self {
        let name = ModelName::new(model);
        let formula = Formula::of(&name);
        let prices = Self { formula, ..Self::default() };
        match (name.family(), formula) {
            (Family::OpenAi, Formula::Tiles { base, .. }) => {
                Self { image_low: base, audio_per_second: 10, pdf_page: 1_500, ..prices }
            }
            (Family::OpenAi, _) => Self { audio_per_second: 10, pdf_page: 1_500, ..prices },
            (_, Formula::GeminiTiles) => Self { image_low: 258, pdf_page: 258, ..prices },
            (_, Formula::GeminiLevels) => Self { image_low: 280, pdf_page: 560, ..prices },
            _ => prices,
        }
    }

    /// The same prices with these settings in place of the provider's.
    #[must_use]
    pub fn with_settings(mut self, set: &MediaTokens) -> Self {
        self.image = set.image.or(self.image);
        self.image_low = set.image_low.unwrap_or(self.image_low);
        self.audio_per_second = set.audio_per_second.unwrap_or(self.audio_per_second);
        self.video_per_second = set.video_per_second.unwrap_or(self.video_per_second);
        self.pdf_page = set.pdf_page.unwrap_or(self.pdf_page);
        self
    }

    /// The price of an image; `size` is `None` if unknown.
    fn image(&self, size: Option<(u64, u64)>, detail: Option<&str>) -> usize {
        // For Claude, Qwen and others the price depends on the size, and a message has no detail.
        if detail == Some("low") && !matches!(self.formula, Formula::Claude { .. }) {
            return self.image_low as usize;
        }
        match self.image {
            Some(price) => price as usize,
            None => self.formula.price(size, detail),
        }
    }

    /// The price of a medium whose content is not text in the message. Text in base64 is counted.
    pub(super) fn price(&self, counter: &dyn TokenCounter, part: &MediaPart<'_>) -> usize {
        let data = match part.source {
            MediaSource::Data(data) => Some(data),
            _ => None,
        };
        let bytes = data.map(|data| data.len() as u64 / 4 * 3);
        let stated = part.size.seconds.map(u64::from);
        let duration = |per_second: u64, otherwise: u64| {
            stated.or_else(|| Some(bytes?.div_ceil(per_second).max(1))).unwrap_or(otherwise)
        };
        let price = match part.kind {
            MediaKind::Image => {
                let stated = part.size.width.zip(part.size.height);
                let size = stated.or_else(|| image_size(data?));
                let size = size.map(|(width, height)| (width.into(), height.into()));
                return self.image(size, part.detail);
            }
            MediaKind::Audio => {
                let pcm = part.media_type.is_some_and(|it| it.ends_with("pcm16"));
                let rate = data.and_then(byte_rate).map(u64::from);
                let rate = rate.unwrap_or(if pcm { 48_000 } else { AUDIO_BYTES_PER_SECOND });
                duration(rate, AUDIO_SECONDS).saturating_mul(self.audio_per_second.into())
            }
            MediaKind::Video => duration(VIDEO_BYTES_PER_SECOND, VIDEO_SECONDS)
                .saturating_mul(self.video_per_second.into()),
            MediaKind::Document => {
                let is_text = part.media_type.is_some_and(is_text);
                let text = data.filter(|_| is_text).map(|data| decode(data, usize::MAX));
                if let Some(text) = text.and_then(|bytes| String::from_utf8(bytes).ok()) {
                    return counter.count(&text);
                }
                let pages = bytes.unwrap_or_default().div_ceil(BYTES_PER_PAGE).max(1);
                pages.saturating_mul(self.pdf_page.into())
            }
        };
        usize::try_from(price).unwrap_or(usize::MAX)
    }

    /// The price of an image in base64.
    pub(super) fn image_in(&self, data: &str) -> usize {
        self.image(image_size(data).map(|(width, height)| (width.into(), height.into())), None)
    }

    /// The price of base64 that only the provider can interpret: that of an image if it is one, else that of a text
    /// with the same number of bytes, four to a token.
    pub(super) fn opaque(&self, data: &str) -> usize {
        match image_size(data) {
            Some(_) => self.image_in(data),
            None => (data.len() / 4 * 3).div_ceil(4),
        }
    }
}

fn is_text(media_type: &str) -> bool {
    let media_type = media_type.split(';').next().unwrap_or_default();
    media_type.starts_with("text/")
        || matches!(
            media_type,
            "txt" | "csv" | "html" | "md" | "application/json" | "application/xml"
        )
}

impl Formula {
    fn of(name: &ModelName) -> Self {
        let patches = |percent, most| Self::Patches { most, most_of_original: most, percent };
        match name.family() {
            Family::Claude if name.has_new_claude_tokenizer() => {
                Self::Claude { edge: 2_576, most: 4_784 }
            }
            Family::Claude => Self::Claude { edge: 1_568, most: 1_568 },
            Family::Gemini if name.version().is_some_and(|it| it < (3, 0)) => Self::GeminiTiles,
            Family::Gemini => Self::GeminiLevels,
            Family::DeepSeek => Self::DeepSeek,
            Family::OpenAi => {
                let mini = name.has("mini");
                match name.version() {
                    _ if name.is("computer-use") => Self::Tiles { base: 65, tile: 129 },
                    _ if name.is("o4") => patches(172, 1_536),
                    _ if name.is("o1") || name.is("o3") => Self::Tiles { base: 75, tile: 150 },
                    _ if name.is("gpt-4o-mini") => Self::Tiles { base: 2_833, tile: 5_667 },
                    _ if name.has("nano") => patches(246, 1_536),
                    Some((4, 1)) if mini => patches(162, 1_536),
                    Some((5, 0 | 1)) if mini => patches(162, 1_536),
                    Some((5, 0 | 1)) => Self::Tiles { base: 70, tile: 140 },
                    Some(version) if version >= (5, 2) => {
                        Self::Patches { most: 2_500, most_of_original: 10_000, percent: 120 }
                    }
                    _ => Self::Tiles { base: 85, tile: 170 },
                }
            }
            _ if name.is("qwen") || name.is("qwen2") || name.is("qwen3") => Self::Qwen,
            _ if name.is("llama") || name.is("llama3") || name.is("llama4") => Self::Llama,
            _ => Self::Unknown,
        }
    }

    fn price(self, size: Option<(u64, u64)>, detail: Option<&str>) -> usize {
        if self == Self::Unknown && size.is_none() {
            return IMAGE as usize;
        }
        let (width, height) = size.unwrap_or(ASSUMED_SIZE);
        let cells = |width: u64, height: u64, side| width.div_ceil(side) * height.div_ceil(side);
        let price = match self {
            Self::Unknown => cells(width, height, 28).clamp(258, 1_568),
            Self::Tiles { base, tile } => {
                let (width, height) = fit(width, height, 2_048, width.max(height));
                let (width, height) = fit(width, height, 768, width.min(height));
                u64::from(base) + u64::from(tile) * cells(width, height, 512)
            }
            Self::Patches { most, most_of_original, percent } => {
                let most = match detail {
                    Some("auto" | "original") => most_of_original,
                    _ => most,
                };
                (cells(width, height, 32).min(most) * percent + 50) / 100
            }
            Self::Claude { edge, most } => {
                let (width, height) = fit(width, height, edge, width.max(height));
                cells(width, height, 28).min(most)
            }
            Self::GeminiTiles if width <= 384 && height <= 384 => 258,
            Self::GeminiTiles => 258 * cells(width, height, 768),
            Self::GeminiLevels => match detail {
                Some("medium") => 560,
                _ => 1_120,
            },
            Self::Llama => 1_601 * cells(width, height, 560).min(4),
            Self::Qwen => cells(width, height, 28).clamp(4, 16_384),
            Self::DeepSeek => 384,
        };
        usize::try_from(price).unwrap_or(usize::MAX)
    }
}

/// Shrinks an image so that its `side` is at most this long.
fn fit(width: u64, height: u64, most: u64, side: u64) -> (u64, u64) {
    if side <= most {
        return (width, height);
    }
    ((width * most / side).max(1), (height * most / side).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_of_unknown_size_is_1000_pixels_square() {
        for (model, price) in [
            ("gpt-4o", 765),
            ("openai/gpt-4.1", 765),
            ("gpt-4-turbo", 765),
            ("gpt-4o-mini-2024-07-18", 25_501),
            ("o3", 675),
            ("gpt-5", 630),
            ("gpt-5.1-codex", 630),
            ("computer-use-preview", 581),
            ("gpt-4.1-mini", 1_659),
            ("gpt-5-mini", 1_659),
            ("gpt-4.1-nano", 2_519),
            ("o4-mini", 1_761),
            ("gpt-5.4", 1_229),
            ("gpt-6.1-sol", 1_229),
            ("claude-sonnet-4-5", 1_369),
            ("us.anthropic.claude-opus-5-5-v1:0", 1_369),
            ("gemini-2.5-pro", 1_032),
            ("models/gemini-3-pro", 1_120),
            ("llama-3.2-90b-vision", 6_404),
            ("qwen2-vl-7b", 1_369),
            ("deepseek-v4-flash", 384),
            ("some-model", 1_300),
        ] {
            assert_eq!(MediaPrices::for_model(model).image(None, None), price, "{model}");
        }
    }

    #[test]
    fn image_price_follows_its_size() {
        for (model, size, detail, price) in [
            ("gpt-4o", (512, 512), None, 255),
            ("gpt-4o", (4_096, 1_024), None, 85 + 170 * 4),
            ("gpt-4o", (4_096, 4_096), None, 765),
            ("gpt-5.5", (1_920, 1_080), None, 2_448),
            ("gpt-5.5", (2_560, 1_440), Some("auto"), 4_320),
            ("gpt-5.5", (2_560, 1_440), Some("high"), 3_000),
            ("gpt-4.1-mini", (4_000, 4_000), None, 2_488),
            ("claude-opus-5-5", (1_920, 1_080), None, 2_691),
            ("claude-opus-4-5", (1_920, 1_080), None, 1_568),
            ("claude-opus-4-5", (256, 256), None, 100),
            ("gemini-2.0-flash", (384, 300), None, 258),
            ("gemini-3-pro", (64, 64), Some("medium"), 560),
            ("other", (64, 64), None, 258),
            ("other", (8_000, 8_000), None, 1_568),
        ] {
            let price_of = MediaPrices::for_model(model).image(Some(size), detail);
            assert_eq!(price_of, price, "{model} {size:?}");
        }
    }

    #[test]
    fn low_detail_costs_less() {
        for (model, low) in [
            ("gpt-4o", 85),
            ("gpt-5", 70),
            ("gpt-5.5", 85),
            ("gemini-3-pro", 280),
            ("gemini-2.5-pro", 258),
            ("other", 85),
        ] {
            let prices = MediaPrices::for_model(model);
            assert_eq!(prices.image(None, Some("low")), low, "{model}");
            assert!(prices.image(None, Some("high")) > low, "{model}");
        }
    }

    #[test]
    fn settings_replace_the_prices_of_the_provider() {
        let set = MediaTokens { image: Some(7), pdf_page: Some(9), ..MediaTokens::default() };
        let prices = MediaPrices::for_model("gpt-4o").with_settings(&set);
        assert_eq!(prices.image(Some((9_000, 9_000)), Some("high")), 7);
        assert_eq!((prices.image(None, Some("low")), prices.pdf_page), (85, 9));
        assert_eq!(prices.audio_per_second, 10);
        let low = MediaTokens { image_low: Some(3), ..MediaTokens::default() };
        assert_eq!(prices.with_settings(&low).image(None, Some("low")), 3);
    }
}
