//! Bytes on the wire and in progress records: numbers as LEB128, the rest with its length.

use bytes::Bytes;
use uuid::Uuid;

/// Bytes of the largest number.
const MAX_NUMBER_BYTES: u32 = 10;

/// What was read is not what was written: another version's, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not this version's")]
pub(super) struct Malformed;

/// Writes.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn with_kind(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(super) fn num(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    pub(super) fn count(&mut self, value: usize) {
        self.num(value as u64);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn done(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// Reads what a [`Writer`] wrote.
pub(super) struct Reader(Bytes);

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn kind(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn num(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for index in 0..MAX_NUMBER_BYTES {
            let byte = self.kind()?;
            value |= u64::from(byte & 0x7f).checked_shl(index * 7).unwrap_or_default();
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub(super) fn small(&mut self) -> Result<u32, Malformed> {
        self.num()?.try_into().map_err(|_| Malformed)
    }

    /// How many of something follow; each takes a byte at least.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.num()?).map_err(|_| Malformed)?;
        if count > self.0.len() { Err(Malformed) } else { Ok(count) }
    }

    fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.0.len() { Err(Malformed) } else { Ok(self.0.split_to(count)) }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let count = self.count()?;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| Malformed)
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        Uuid::from_slice(&self.take(16)?).map_err(|_| Malformed)
    }

    /// A list whose entries `one` reads.
    pub(super) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        (0..self.count()?).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_texts_read_back(numbers: Vec<u64>, text: String) {
            let mut writer = Writer::with_kind(3);
            writer.count(numbers.len());
            numbers.iter().for_each(|n| writer.num(*n));
            writer.text(&text);
            let mut reader = Reader::new(writer.done());
            prop_assert_eq!(reader.kind(), Ok(3));
            prop_assert_eq!(reader.list(Reader::num), Ok(numbers));
            prop_assert_eq!(reader.text(), Ok(text));
            prop_assert_eq!(reader.kind(), Err(Malformed));
        }

        #[test]
        fn damaged_bytes_are_refused_not_trusted(bytes: Vec<u8>) {
            let mut reader = Reader::new(bytes.into());
            // Nothing but an end: no panic, and no memory for a length that is not there.
            while reader.list(Reader::bytes).is_ok() && reader.num().is_ok() {}
        }
    }
}
