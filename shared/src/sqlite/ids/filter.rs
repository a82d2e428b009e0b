//! A blocked Bloom filter: two bytes an id, one cache line a look.

use super::Key;

/// Words in a block: one cache line.
const BLOCK_WORDS: usize = 8;
/// Bits set for an id, all in one block.
const PROBES: u32 = 6;
/// Bits an id; with six probes about one look in a thousand is in vain.
const BITS_AN_ID: usize = 16;

/// Two independent hashes of an id.
pub(super) type Hash = (u64, u64);

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Hashes an id of a space. Stored: MUST NOT change.
pub(super) fn hash((space, id): Key) -> Hash {
    let (high, low) = id.as_u64_pair();
    let first = mix(high ^ mix(low ^ (u64::from(space) << 1 | 1)));
    (first, mix(first ^ low))
}

/// The filter of one segment.
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    pub(super) fn for_ids(ids: usize) -> Self {
        let blocks = (ids * BITS_AN_ID / (BLOCK_WORDS * 64)).max(1).next_power_of_two();
        Self { words: vec![0; blocks * BLOCK_WORDS] }
    }

    /// Back from `to_bytes`; `None` when it is not that.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let fits = words.len() >= BLOCK_WORDS && (words.len() / BLOCK_WORDS).is_power_of_two();
        (fits && words.len().is_multiple_of(BLOCK_WORDS)).then_some(Self { words })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn block(&self, hash: Hash) -> usize {
        let blocks = self.words.len() / BLOCK_WORDS;
        // `blocks` is a power of two, and the masked value is smaller than it.
        usize::try_from(hash.0 & (blocks as u64 - 1)).unwrap_or_default() * BLOCK_WORDS
    }

    fn places(hash: Hash) -> impl Iterator<Item = (usize, u64)> {
        (0..PROBES).map(move |probe| {
            let bits = hash.1 >> (probe * 9);
            (usize::try_from(bits >> 6 & 7).unwrap_or_default(), 1 << (bits & 63))
        })
    }

    pub(super) fn add(&mut self, hash: Hash) {
        let block = self.block(hash);
        for (word, bit) in Self::places(hash) {
            self.words[block + word] |= bit;
        }
    }

    /// False only when the id was never added.
    pub(super) fn may_hold(&self, hash: Hash) -> bool {
        let block = self.block(hash);
        Self::places(hash).all(|(word, bit)| self.words[block + word] & bit != 0)
    }
}
