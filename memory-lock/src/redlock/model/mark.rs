//! The hash of a state.

use std::hash::Hasher;

/// A hash of 128 bits. Among millions of states no two collide, so the states themselves need not be kept.
#[derive(Default)]
pub(super) struct Mark(pub(super) u128);

impl Hasher for Mark {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let mixed = (self.0 ^ u128::from(word)).wrapping_mul(ODD);
        self.0 = mixed ^ (mixed >> 67);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u128(&mut self, mark: u128) {
        self.0 = mark;
    }

    fn finish(&self) -> u64 {
        (self.0 >> 64) as u64
    }
}
