//! The kinds of characters outside of ASCII, by blocks of the Basic Multilingual Plane.

/// A block of characters that are counted in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// The features of the block.
    pub(super) number: usize,
    pub(super) kind: Kind,
}

/// The kind of the characters of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters and the marks on them, in words.
    Letters,
    /// Letters that are words or syllables by themselves.
    Syllables,
    /// Neither letters nor digits.
    Signs,
}

use Kind::{Letters, Signs, Syllables};

/// The first character of each block and its kind; a block ends where the next begins. All begin at a multiple of 64.
const BLOCKS: [(u32, Kind); BLOCK_COUNT] = [
    (0x0080, Signs),     // Latin-1 punctuation
    (0x00c0, Letters),   // Latin-1, Extended A
    (0x0180, Letters),   // Latin Extended B, phonetic
    (0x02c0, Letters),   // modifiers
    (0x0300, Letters),   // combining marks
    (0x0380, Letters),   // Greek
    (0x0400, Letters),   // Cyrillic
    (0x0480, Letters),   // Cyrillic of other languages than Russian
    (0x0540, Letters),   // Armenian
    (0x0580, Letters),   // Hebrew
    (0x0600, Letters),   // Arabic
    (0x0680, Letters),   // Arabic of other languages
    (0x0700, Letters),   // Syriac, Thaana, N'Ko
    (0x0900, Letters),   // Devanagari
    (0x0980, Letters),   // Bengali
    (0x0a00, Letters),   // Gurmukhi
    (0x0a80, Letters),   // Gujarati
    (0x0b00, Letters),   // Oriya
    (0x0b80, Letters),   // Tamil
    (0x0c00, Letters),   // Telugu
    (0x0c80, Letters),   // Kannada
    (0x0d00, Letters),   // Malayalam
    (0x0d80, Letters),   // Sinhala
    (0x0e00, Letters),   // Thai
    (0x0e80, Letters),   // Lao
    (0x0f00, Letters),   // Tibetan
    (0x1000, Letters),   // Burmese
    (0x1080, Letters),   // Georgian
    (0x1100, Letters),   // Hangul Jamo
    (0x1200, Syllables), // Ethiopic
    (0x1380, Letters),   // Cherokee, Canadian syllables and more
    (0x1780, Letters),   // Khmer
    (0x1800, Letters),   // Mongolian and more
    (0x1e00, Letters),   // Latin Extended Additional, of Vietnamese most
    (0x1f00, Letters),   // Greek Extended
    (0x2000, Signs),     // punctuation
    (0x2080, Signs),     // currencies and arrows
    (0x2200, Signs),     // mathematics and technical signs
    (0x2500, Signs),     // box drawing
    (0x25c0, Signs),     // shapes and dingbats
    (0x27c0, Signs),     // Braille and more
    (0x2e80, Syllables), // radicals
    (0x3000, Signs),     // punctuation of Chinese and Japanese
    (0x3040, Syllables), // Hiragana
    (0x30c0, Syllables), // Katakana, Bopomofo
    (0x3400, Syllables), // Chinese characters, rare
    (0x4e00, Syllables), // Chinese characters
    (0xa000, Letters),   // Yi and more
    (0xac00, Syllables), // Hangul
    (0xd7c0, Signs),     // private
    (0xfb00, Letters),   // Arabic forms
    (0xfe00, Signs),     // variation selectors and forms
    (0xff00, Signs),     // full width
];
/// Rows of 64 characters within the plane.
const ROWS: usize = 1024;
/// Blocks within the plane; two more cover the characters beyond.
const BLOCK_COUNT: usize = 53;

/// The block of each row. Some rows also have characters of another kind.
static OF_ROW: [u8; ROWS] = blocks_of_rows();
const IS_MIXED: u8 = 0x80;
/// The rows of the characters that [`Block::of_mixed`] names.
const MIXED_ROWS: [usize; 14] = [
    0x80 >> 6,
    0xc0 >> 6,
    0x600 >> 6,
    0x640 >> 6,
    0x6c0 >> 6,
    0x940 >> 6,
    0x1040 >> 6,
    0x1340 >> 6,
    0x17c0 >> 6,
    0x2000 >> 6,
    0xfe00 >> 6,
    0xff00 >> 6,
    0xff40 >> 6,
    0xff80 >> 6,
];

#[expect(
    clippy::indexing_slicing,
    reason = "done by the compiler, which refuses what is out of bounds"
)]
const fn blocks_of_rows() -> [u8; ROWS] {
    let mut of_row = [0; ROWS];
    let (mut row, mut block) = (0, 0_u8);
    while row < ROWS {
        while (block as usize) + 1 < BLOCK_COUNT
            && BLOCKS[block as usize + 1].0 <= (row as u32) << 6
        {
            block += 1;
        }
        of_row[row] = block;
        row += 1;
    }
    let mut mixed = 0;
    while mixed < MIXED_ROWS.len() {
        of_row[MIXED_ROWS[mixed]] |= IS_MIXED;
        mixed += 1;
    }
    of_row
}

impl Block {
    /// Emoji and other pictures.
    const PICTURES: Self = Self { number: BLOCK_COUNT, kind: Signs };
    /// Chinese characters and dead scripts.
    const BEYOND: Self = Self { number: BLOCK_COUNT + 1, kind: Syllables };
    /// The block of a character that is not ASCII.
    #[inline]
    pub(super) fn of(character: char) -> Self {
        let code = u32::from(character);
        let Some(&row) = OF_ROW.get((code >> 6) as usize) else {
            return match code {
                0x1_f000..=0x1_ffff | 0xe_0000.. => Self::PICTURES,
                _ => Self::BEYOND,
            };
        };
        let number = (row & !IS_MIXED) as usize;
        let block = Self { number, kind: BLOCKS.get(number).map_or(Signs, |(_, kind)| *kind) };
        if row & IS_MIXED == 0 { block } else { Self::of_mixed(code).unwrap_or(block) }
    }

    /// Letters among signs and signs among letters.
    fn of_mixed(code: u32) -> Option<Self> {
        let (number, kind) = match code {
            0xaa | 0xb5 | 0xba => (1, Letters),
            0xd7 | 0xf7 => (0, Signs),
            0x964 | 0x965 => (13, Signs),
            0x60c | 0x61b | 0x61f | 0x66a..=0x66d | 0x6d4 => (10, Signs),
            0x1361..=0x1368 => (29, Signs),
            0x17d4..=0x17da => (31, Signs),
            0x104a..=0x104f => (26, Signs),
            0xff10..=0xff19 | 0xff21..=0xff3a | 0xff41..=0xff5a | 0xff66..=0xff9f => {
                (52, Syllables)
            }
            0x200b..=0x200f | 0xfe0f => (51, Signs),
            _ => return None,
        };
        Some(Self { number, kind })
    }
}

/// The lower-case letter of a capital in the scripts that have both, computed from the arrangement of their blocks;
/// any other character unchanged.
pub(super) const fn small(code: u32) -> u32 {
    match code {
        0xc0..=0xde | 0x391..=0x3ab | 0x410..=0x42f => code + 0x20,
        0x400..=0x40f => code + 0x50,
        0x531..=0x556 => code + 0x30,
        0x386 => 0x3ac,
        0x388..=0x38a => code + 0x25,
        0x38c => 0x3cc,
        0x38e | 0x38f => code + 0x3f,
        0x139..=0x148 | 0x179..=0x17e => code + code % 2,
        0x100..=0x137
        | 0x14a..=0x177
        | 0x1a0..=0x1a5
        | 0x460..=0x481
        | 0x48a..=0x4bf
        | 0x4d0..=0x52f
        | 0x1e00..=0x1e95
        | 0x1ea0..=0x1eff => code | 1,
        _ => code,
    }
}
