//! What an attempt has written, in bounded memory: the newest bytes, and where they stand.

use bytes::Bytes;

/// Bytes kept of an attempt that runs.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Longest line; the rest of it is cut off.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// The newest output of one attempt.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// How many bytes were written and are no longer kept.
    dropped: u64,
    kept: Vec<u8>,
    ended: bool,
}

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) data: Bytes,
    pub(super) next_offset: u64,
    /// Nothing follows.
    pub(super) end: bool,
}

impl Output {
    /// Adds a line, and its end.
    pub(super) fn line(&mut self, line: &str) {
        let end = (0..=line.len().min(LINE_BYTES_MAX))
            .rev()
            .find(|end| line.is_char_boundary(*end));
        self.kept
            .extend_from_slice(line[..end.unwrap_or(0)].trim_end().as_bytes());
        self.kept.push(b'\n');
        // Half is dropped at once, so that a line costs a move of it only rarely.
        if self.kept.len() > KEPT_BYTES_MAX {
            let over = self.kept.len() - KEPT_BYTES_MAX / 2;
            self.kept.drain(..over);
            self.dropped += over as u64;
        }
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Returns the last bytes.
    pub(super) fn tail(&self, bytes: usize) -> &[u8] {
        &self.kept[self.kept.len().saturating_sub(bytes)..]
    }

    /// Returns what stands at an offset, or at the first byte behind it that is kept.
    pub(super) fn read(&self, offset: u64, limit: usize) -> Piece {
        let written = self.dropped + self.kept.len() as u64;
        let offset = offset.clamp(self.dropped, written);
        // Within what is kept, so it fits.
        let from = (offset - self.dropped) as usize;
        let to = self.kept.len().min(from.saturating_add(limit));
        Piece {
            offset,
            data: Bytes::copy_from_slice(&self.kept[from..to]),
            next_offset: self.dropped + to as u64,
            end: self.ended && to == self.kept.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_where_it_stands() {
        let mut output = Output::default();
        output.line("one");
        output.line("two\n");
        let all = output.read(0, 100);
        assert_eq!(
            (&all.data[..], all.next_offset, all.end),
            (&b"one\ntwo\n"[..], 8, false)
        );
        assert_eq!(&output.read(4, 2).data[..], b"tw");
        output.end();
        assert!(
            output.read(8, 100).end && output.read(99, 100).end,
            "an offset beyond the end is its end"
        );
        assert!(!output.read(0, 3).end);
        assert_eq!(output.tail(4), b"two\n");
    }

    #[test]
    fn memory_is_bounded_and_the_gap_is_shown() {
        let mut output = Output::default();
        let line = "x".repeat(2 * LINE_BYTES_MAX);
        for _ in 0..100 {
            output.line(&line);
        }
        assert!(output.kept.len() <= KEPT_BYTES_MAX);
        let piece = output.read(0, usize::MAX);
        assert!(piece.offset > 0, "what was dropped is jumped over");
        assert_eq!(piece.next_offset, 100 * (LINE_BYTES_MAX as u64 + 1));
    }
}
