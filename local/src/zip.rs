//! A function's deployment package: a ZIP archive with the one file `bootstrap`, stored without compression.
//!
//! A ZIP crate would bring compression, encryption and dates for these three records.

/// The name of the file, as Lambda's custom runtime expects it.
const NAME: &[u8] = b"bootstrap";
/// ZIP 2.0, made on Unix.
const VERSION: u16 = 20;
const UNIX: u16 = 3 << 8;
/// Midnight of 1 January 1980. The date is fixed, so that the same binary makes the same package.
const TIME: u16 = 0;
const DATE: u16 = 1 << 5 | 1;
/// A regular file that every user may execute.
const MODE: u32 = 0o100_755 << 16;

/// The archive with `binary` as its executable file. A binary of 4 GiB or more does not fit; Lambda takes 250 MB.
pub(crate) fn archive(binary: &[u8]) -> Vec<u8> {
    let common = common(binary);
    let mut archive = Vec::with_capacity(binary.len() + 256);

    // The local header, and the file.
    archive.extend(b"PK\x03\x04");
    archive.extend(VERSION.to_le_bytes());
    archive.extend(&common);
    archive.extend(NAME);
    archive.extend(binary);

    // The central directory, which points to the local header at offset 0.
    let directory = length(&archive);
    archive.extend(b"PK\x01\x02");
    archive.extend((UNIX | VERSION).to_le_bytes());
    archive.extend(VERSION.to_le_bytes());
    archive.extend(&common);
    // No comment, disk 0, no internal attributes.
    archive.extend([0; 6]);
    archive.extend(MODE.to_le_bytes());
    archive.extend(0_u32.to_le_bytes());
    archive.extend(NAME);

    // The end: disk 0 of 0, one entry of one, the directory's size and offset, no comment.
    let size = length(&archive) - directory;
    archive.extend(b"PK\x05\x06");
    archive.extend([0, 0, 0, 0, 1, 0, 1, 0]);
    archive.extend(size.to_le_bytes());
    archive.extend(directory.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

/// The fields that the local header and the directory share, from the flags to the length of the extra field.
fn common(binary: &[u8]) -> Vec<u8> {
    let size = length(binary).to_le_bytes();
    let mut fields = Vec::new();
    // No flags, method 0: stored.
    fields.extend([0; 4]);
    fields.extend(TIME.to_le_bytes());
    fields.extend(DATE.to_le_bytes());
    fields.extend(crc32fast::hash(binary).to_le_bytes());
    fields.extend(size);
    fields.extend(size);
    fields.extend(u16::try_from(NAME.len()).unwrap_or_default().to_le_bytes());
    fields.extend([0, 0]);
    fields
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::archive;

    #[test]
    fn another_program_reads_the_file_its_content_and_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("package.zip");
        std::fs::write(&file, archive(b"a binary")).unwrap();
        let script = "import sys, zipfile\n\
            package = zipfile.ZipFile(sys.argv[1])\n\
            entry, = package.infolist()\n\
            print(package.testzip(), entry.filename, oct(entry.external_attr >> 16), package.read(entry))";

        let output = Command::new("python3").args(["-c", script]).arg(&file).output().unwrap();

        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "None bootstrap 0o100755 b'a binary'\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
