//! What was written to a file and not yet synced. Touches no file itself.

/// The writes of one open file, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Pending(Vec<Write>);

/// Bytes and their place in the file.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Write {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl Pending {
    pub(crate) fn push(&mut self, offset: u64, bytes: &[u8]) {
        self.0.push(Write { offset, bytes: bytes.to_vec() });
    }

    /// Takes all writes out, in order to carry them out.
    pub(crate) fn take(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.0)
    }

    /// The size of a file that has `size` bytes on the disk.
    pub(crate) fn size(&self, size: u64) -> u64 {
        self.0.iter().map(Write::end).max().unwrap_or(0).max(size)
    }

    /// Puts what was written over `buffer`, which was read from the disk at `offset`.
    pub(crate) fn overlay(&self, offset: u64, buffer: &mut [u8]) {
        let end = offset + buffer.len() as u64;
        for write in &self.0 {
            let (from, to) = (write.offset.max(offset), write.end().min(end));
            if from < to {
                let source = index(from - write.offset)..index(to - write.offset);
                buffer[index(from - offset)..index(to - offset)].copy_from_slice(&write.bytes[source]);
            }
        }
    }
}

/// A distance within a buffer, which always fits.
fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_sees_the_latest_writes_over_what_is_on_the_disk() {
        let mut pending = Pending::default();
        pending.push(2, b"bbbb");
        pending.push(4, b"cccc");

        let mut buffer = *b"aaaaaaaaaa";
        pending.overlay(0, &mut buffer);
        assert_eq!(&buffer, b"aabbccccaa");
        let mut middle = *b"aaa";
        pending.overlay(3, &mut middle);
        assert_eq!(&middle, b"bcc");
        let mut after = *b"aaa";
        pending.overlay(8, &mut after);
        assert_eq!(&after, b"aaa");
    }

    #[test]
    fn a_file_is_as_large_as_its_last_byte_on_the_disk_or_in_memory() {
        let mut pending = Pending::default();
        assert_eq!(pending.size(7), 7);
        pending.push(2, b"bbbb");
        assert_eq!((pending.size(3), pending.size(9)), (6, 9));
        assert_eq!(pending.take().len(), 1);
        assert_eq!(pending.size(3), 3);
    }
}
