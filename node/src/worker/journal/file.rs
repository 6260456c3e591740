//! The journal's file: made, read, added to, written anew.

use super::book::Book;
use super::record::{BLOCK_BYTES, Block, Head, Mark, Record, extend, read};
use super::{JournalError, Sync};
use sched_core::session::JournalPosition;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file is written anew when it is larger than this and more than half of it is no longer needed.
const REWRITE_BYTES: u64 = 8 * 1024 * 1024;
const NAME: &str = "journal";
const NEW: &str = "journal.new";

/// See the module.
pub(super) struct JournalFile {
    dir: PathBuf,
    sync: Sync,
    file: File,
    bytes: u64,
    /// When it is written anew.
    rewrite_at: u64,
    pub(super) journal: u128,
    pub(super) position: JournalPosition,
    pub(super) book: Book,
}

impl JournalFile {
    /// Opens the journal of a folder, or makes one: the first time, or when the file was copied here.
    pub(super) fn open(dir: &Path, sync: Sync) -> Result<Self, JournalError> {
        let path = dir.join(NAME);
        let io = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Self::create(dir, sync).map_err(io),
            Err(e) => return Err(io(e)),
        };
        let contents = read(&path, &bytes)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        let inode = file.metadata().map_err(io)?.ino();
        if contents.head.inode != inode {
            tracing::error!(
                path = %path.display(),
                "the worker's journal was copied or restored: what it holds belongs to another worker; this one joins as a new one"
            );
            set_aside(dir).map_err(io)?;
            return Self::create(dir, sync).map_err(io);
        }
        if contents.end < bytes.len() as u64 {
            let (end, torn) = (contents.end, bytes.len() as u64 - contents.end);
            tracing::warn!(path = %path.display(), end, torn, "the journal's last block was not written to its end, and is cut off");
            file.set_len(end).and_then(|()| sync(&file)).map_err(io)?;
        }
        let mut book = Book {
            forgotten: contents.head.forgotten,
            ..Book::default()
        };
        contents
            .carried
            .iter()
            .chain(&contents.records)
            .for_each(|record| book.note(record));
        Ok(Self {
            dir: dir.to_owned(),
            sync,
            file,
            bytes: contents.end,
            rewrite_at: REWRITE_BYTES.max(2 * contents.end),
            journal: contents.head.journal,
            position: contents.position,
            book,
        })
    }

    fn create(dir: &Path, sync: Sync) -> io::Result<Self> {
        let journal: u128 = rand::random();
        let position = JournalPosition {
            length: 0,
            head: [0; 16],
        };
        let book = Book::default();
        let (file, bytes) = write_new(dir, &sync, journal, position, &book)?;
        Ok(Self {
            dir: dir.to_owned(),
            sync,
            file,
            bytes,
            rewrite_at: REWRITE_BYTES,
            journal,
            position,
            book,
        })
    }

    /// Begins a journal of another worker in place of this one, which is kept under another name.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        set_aside(&self.dir)?;
        *self = Self::create(&self.dir, self.sync.clone())?;
        Ok(())
    }

    /// Makes records durable: with one sync as long as they fit into one block. Returns those that somebody waits for.
    pub(super) fn append(&mut self, records: Vec<Record>) -> io::Result<Vec<Mark>> {
        let marks = records.iter().filter_map(Record::mark).collect();
        for records in in_blocks(records.into_iter()) {
            let position = extend(self.position, &records);
            records.iter().for_each(|record| self.book.note(record));
            let block = Block::Records {
                length: self.position.length,
                head: self.position.head,
                records,
            };
            let bytes = block.encode();
            self.file.write_all(&bytes)?;
            (self.sync)(&self.file)?;
            self.bytes += bytes.len() as u64;
            self.position = position;
        }
        if self.bytes > self.rewrite_at {
            self.rewrite()?;
        }
        Ok(marks)
    }

    /// Writes the file anew, without what is recorded. The chain goes on where it is.
    pub(super) fn rewrite(&mut self) -> io::Result<()> {
        let (file, bytes) = write_new(&self.dir, &self.sync, self.journal, self.position, &self.book)?;
        (self.file, self.bytes) = (file, bytes);
        self.rewrite_at = REWRITE_BYTES.max(2 * bytes);
        Ok(())
    }
}

/// Writes a whole file, and gives it its name once it is on disk.
fn write_new(
    dir: &Path,
    sync: &Sync,
    journal: u128,
    position: JournalPosition,
    book: &Book,
) -> io::Result<(File, u64)> {
    let (path, new) = (dir.join(NAME), dir.join(NEW));
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).open(&new)?;
    let carried: Vec<Vec<u8>> = in_blocks(book.carried())
        .map(|records| Block::Carried(records).encode())
        .collect();
    let head = Block::Head(Head {
        journal,
        inode: file.metadata()?.ino(),
        length: position.length,
        head: position.head,
        forgotten: book.forgotten,
        // 10,000 attempts at most, so far fewer blocks.
        carried: u32::try_from(carried.len()).unwrap_or(u32::MAX),
    });
    let mut bytes = 0;
    for block in std::iter::once(head.encode()).chain(carried) {
        file.write_all(&block)?;
        bytes += block.len() as u64;
    }
    sync(&file)?;
    fs::rename(&new, &path)?;
    sync(&File::open(dir)?)?;
    Ok((file, bytes))
}

/// Keeps a file that is of no use any more for whoever looks into it, and only the newest of them.
fn set_aside(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(NAME), dir.join("journal.refused"))
}

/// Cuts records into blocks.
fn in_blocks(records: impl Iterator<Item = Record>) -> impl Iterator<Item = Vec<Record>> {
    let mut records = records.peekable();
    std::iter::from_fn(move || {
        records.peek()?;
        let (mut block, mut bytes) = (Vec::new(), 0);
        while bytes < BLOCK_BYTES
            && let Some(record) = records.next()
        {
            bytes += record.size();
            block.push(record);
        }
        Some(block)
    })
}
