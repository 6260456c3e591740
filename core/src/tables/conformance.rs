//! What every store of tables must do: one suite for the tables in memory and for RocksDB.
//!
//! A rule about storage is a case here. Cases panic with the case's name in the message; a fault of the store is passed on.

use super::{Change, Changes, MemTables, Pair, Staged, Table, View};
use crate::command::Fault;

/// A store of tables under test.
pub trait Store {
    /// Its views: each stays as it was when it was taken.
    type View: View;

    /// Writes changes, in order, in one step.
    ///
    /// # Errors
    /// What the store cannot do.
    fn write(&mut self, changes: Changes) -> Result<(), Fault>;

    /// Returns the tables at this moment.
    ///
    /// # Errors
    /// What the store cannot do.
    fn view(&self) -> Result<Self::View, Fault>;
}

impl Store for MemTables {
    type View = MemTables;

    fn write(&mut self, changes: Changes) -> Result<(), Fault> {
        MemTables::write(self, changes);
        Ok(())
    }

    fn view(&self) -> Result<MemTables, Fault> {
        Ok(self.clone())
    }
}

/// Runs every case, each on an empty store made by `make`.
///
/// # Errors
/// A fault of the store.
///
/// # Panics
/// When the store does not do what it must.
pub fn run<S: Store>(mut make: impl FnMut() -> S) -> Result<(), Fault> {
    nothing_is_found_in_empty_tables(make())?;
    keys_are_set_replaced_and_removed(make())?;
    tables_are_apart(make())?;
    scans_keep_order_bounds_and_limit(make())?;
    any_bytes_may_be_key_or_value(make())?;
    changes_of_a_batch_apply_in_order(make())?;
    ranges_end_before_their_end(make())?;
    views_stay_as_they_were(make())?;
    for seed in 0..8 {
        random_batches_agree_with_the_model(make(), seed)?;
        staged_changes_read_as_they_will_be_written(make(), seed)?;
    }
    Ok(())
}

const TABLE: Table = Table::Runs;
/// Sorts after every key used here.
const END: &[u8] = &[0xff; 40];

fn put(key: &[u8], value: &[u8]) -> Change {
    Change::Put {
        table: TABLE,
        key: key.to_vec(),
        value: value.to_vec(),
    }
}

fn delete(key: &[u8]) -> Change {
    Change::Delete {
        table: TABLE,
        key: key.to_vec(),
    }
}

fn delete_range(from: &[u8], to: &[u8]) -> Change {
    Change::DeleteRange {
        table: TABLE,
        from: from.to_vec(),
        to: to.to_vec(),
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<Pair> {
    of.iter()
        .map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()))
        .collect()
}

fn dump(view: &impl View, table: Table) -> Result<Vec<Pair>, Fault> {
    view.scan(table, b"", END, 1_000_000)
}

fn nothing_is_found_in_empty_tables(store: impl Store) -> Result<(), Fault> {
    let view = store.view()?;
    for table in Table::ALL {
        assert_eq!(view.get(table, b"a")?, None, "empty {table:?}");
        assert_eq!(view.scan(table, b"", END, 10)?, [], "empty {table:?}");
        assert_eq!(view.scan_back(table, b"", END, 10)?, [], "empty {table:?}");
    }
    Ok(())
}

fn keys_are_set_replaced_and_removed(mut store: impl Store) -> Result<(), Fault> {
    store.write(vec![put(b"a", b"1"), put(b"b", b"2")])?;
    store.write(vec![put(b"a", b"3"), delete(b"b"), delete(b"never there")])?;
    let view = store.view()?;
    assert_eq!(view.get(TABLE, b"a")?, Some(b"3".to_vec()), "replaced");
    assert_eq!(view.get(TABLE, b"b")?, None, "removed");
    assert_eq!(dump(&view, TABLE)?, pairs(&[("a", "3")]), "what is left");
    store.write(Changes::new())?;
    assert_eq!(
        dump(&store.view()?, TABLE)?,
        pairs(&[("a", "3")]),
        "an empty batch changes nothing"
    );
    Ok(())
}

fn tables_are_apart(mut store: impl Store) -> Result<(), Fault> {
    let one = |table: Table| Change::Put {
        table,
        key: b"k".to_vec(),
        value: table.name().as_bytes().to_vec(),
    };
    store.write(Table::ALL.map(one).to_vec())?;
    store.write(vec![Change::DeleteRange {
        table: Table::Spool,
        from: Vec::new(),
        to: END.to_vec(),
    }])?;
    let view = store.view()?;
    for table in Table::ALL {
        let wanted = (table != Table::Spool).then(|| table.name().as_bytes().to_vec());
        assert_eq!(view.get(table, b"k")?, wanted, "{table:?} has its own key");
    }
    Ok(())
}

fn scans_keep_order_bounds_and_limit(mut store: impl Store) -> Result<(), Fault> {
    store.write(
        ["c", "a", "e", "b", "d"]
            .iter()
            .map(|k| put(k.as_bytes(), b"v"))
            .collect(),
    )?;
    let view = store.view()?;
    let keys = |found: Vec<Pair>| {
        String::from_utf8_lossy(&found.into_iter().flat_map(|(k, _)| k).collect::<Vec<_>>()).into_owned()
    };
    for (from, to, limit, up, down) in [
        ("", "z", 9, "abcde", "edcba"),
        ("b", "d", 9, "bc", "cb"),
        ("b", "d\0", 9, "bcd", "dcb"),
        ("a\0", "e", 9, "bcd", "dcb"),
        ("", "z", 2, "ab", "ed"),
        ("b", "e", 1, "b", "d"),
        ("b", "e", 0, "", ""),
        ("c", "c", 9, "", ""),
        ("d", "b", 9, "", ""),
        ("f", "z", 9, "", ""),
    ] {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        assert_eq!(
            keys(view.scan(TABLE, from, to, limit)?),
            up,
            "scan {from:?}..{to:?}, {limit}"
        );
        assert_eq!(
            keys(view.scan_back(TABLE, from, to, limit)?),
            down,
            "scan back {from:?}..{to:?}, {limit}"
        );
    }
    Ok(())
}

fn any_bytes_may_be_key_or_value(mut store: impl Store) -> Result<(), Fault> {
    let keys: [&[u8]; 6] = [b"\0", b"\0\0", b"\0\x01", b"\x7f\xff", b"\x80", b"\xff\xff"];
    let long = vec![0xa5; 300 * 1024];
    store.write(keys.iter().map(|k| put(k, &[])).collect())?;
    store.write(vec![put(b"long", &long)])?;
    let view = store.view()?;
    for key in keys {
        assert_eq!(
            view.get(TABLE, key)?,
            Some(Vec::new()),
            "an empty value is a value: {key:?}"
        );
    }
    assert_eq!(view.get(TABLE, b"long")?, Some(long), "a long value");
    let found: Vec<_> = dump(&view, TABLE)?
        .into_iter()
        .map(|(k, _)| k)
        .filter(|k| k != b"long")
        .collect();
    assert_eq!(found, keys, "bytes sort without a sign");
    Ok(())
}

fn changes_of_a_batch_apply_in_order(mut store: impl Store) -> Result<(), Fault> {
    store.write(vec![put(b"a", b"1"), delete(b"a"), put(b"b", b"1"), put(b"b", b"2")])?;
    store.write(vec![
        put(b"c", b"1"),
        delete_range(b"c", b"d"),
        put(b"d", b"1"),
        delete(b"x"),
        put(b"x", b"2"),
    ])?;
    assert_eq!(
        dump(&store.view()?, TABLE)?,
        pairs(&[("b", "2"), ("d", "1"), ("x", "2")]),
        "in order"
    );
    store.write(vec![delete_range(b"", END), put(b"c", b"9")])?;
    assert_eq!(
        dump(&store.view()?, TABLE)?,
        pairs(&[("c", "9")]),
        "set after its range was removed"
    );
    Ok(())
}

fn ranges_end_before_their_end(mut store: impl Store) -> Result<(), Fault> {
    store.write(
        ["a", "b", "b\0", "c", "d"]
            .iter()
            .map(|k| put(k.as_bytes(), b"v"))
            .collect(),
    )?;
    store.write(vec![delete_range(b"b", b"c")])?;
    let left = pairs(&[("a", "v"), ("c", "v"), ("d", "v")]);
    assert_eq!(dump(&store.view()?, TABLE)?, left, "first removed, end kept");
    store.write(vec![delete_range(b"d", b"a"), delete_range(b"c", b"c")])?;
    assert_eq!(
        dump(&store.view()?, TABLE)?,
        left,
        "empty and inverted ranges remove nothing"
    );
    Ok(())
}

fn views_stay_as_they_were(mut store: impl Store) -> Result<(), Fault> {
    store.write(vec![put(b"a", b"1"), put(b"b", b"1")])?;
    let before = store.view()?;
    store.write(vec![put(b"a", b"2"), delete(b"b"), put(b"c", b"2")])?;
    let between = store.view()?;
    store.write(vec![delete_range(b"", END)])?;
    assert_eq!(
        dump(&before, TABLE)?,
        pairs(&[("a", "1"), ("b", "1")]),
        "the older view"
    );
    assert_eq!(before.get(TABLE, b"c")?, None, "the older view");
    assert_eq!(
        dump(&between, TABLE)?,
        pairs(&[("a", "2"), ("c", "2")]),
        "the newer view"
    );
    assert_eq!(dump(&store.view()?, TABLE)?, [], "now");
    Ok(())
}

/// A fixed sequence that looks random (a linear congruence): a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn key(&mut self) -> Vec<u8> {
        // Few enough that changes meet each other.
        self.roll(60).to_be_bytes()[6..].to_vec()
    }

    fn table(&mut self) -> Table {
        [Table::Waiting, Table::Ready, Table::Runs][self.roll(3) as usize]
    }

    fn change(&mut self) -> Change {
        let table = self.table();
        match self.roll(10) {
            0 => Change::DeleteRange {
                table,
                from: self.key(),
                to: self.key(),
            },
            1..=3 => Change::Delete { table, key: self.key() },
            _ => Change::Put {
                table,
                key: self.key(),
                value: self.roll(1000).to_be_bytes().to_vec(),
            },
        }
    }
}

/// Compares everything, and a few scans from anywhere to anywhere.
fn assert_same(view: &impl View, model: &MemTables, dice: &mut Dice, case: &str) -> Result<(), Fault> {
    for table in Table::ALL {
        assert_eq!(dump(view, table)?, model.dump(table), "{case}: {table:?}");
    }
    for _ in 0..6 {
        let (table, from, to, limit) = (dice.table(), dice.key(), dice.key(), dice.roll(20) as usize);
        assert_eq!(
            view.scan(table, &from, &to, limit)?,
            model.scan(table, &from, &to, limit)?,
            "{case}: scan"
        );
        assert_eq!(
            view.scan_back(table, &from, &to, limit)?,
            model.scan_back(table, &from, &to, limit)?,
            "{case}: back"
        );
        assert_eq!(view.get(table, &from)?, model.get(table, &from)?, "{case}: get");
    }
    Ok(())
}

fn random_batches_agree_with_the_model(mut store: impl Store, seed: u64) -> Result<(), Fault> {
    let (mut model, mut dice) = (MemTables::new(), Dice(seed));
    for _ in 0..40 {
        let size = dice.roll(25);
        let batch: Changes = (0..size).map(|_| dice.change()).collect();
        model.write(batch.clone());
        store.write(batch)?;
        assert_same(&store.view()?, &model, &mut dice, "batches")?;
    }
    Ok(())
}

fn staged_changes_read_as_they_will_be_written(mut store: impl Store, seed: u64) -> Result<(), Fault> {
    let (mut model, mut dice) = (MemTables::new(), Dice(seed));
    for _ in 0..20 {
        let mut staged = Staged::new(store.view()?);
        for _ in 0..dice.roll(6) {
            // One command: its changes stay, or are all taken back.
            let changes: Changes = (0..dice.roll(8)).map(|_| dice.change()).collect();
            for change in changes.clone() {
                match change {
                    Change::Put { table, key, value } => staged.put(table, key, value),
                    Change::Delete { table, key } => staged.delete(table, key),
                    Change::DeleteRange { table, from, to } => staged.delete_range(table, from, to),
                }
            }
            if dice.roll(3) == 0 {
                staged.rollback();
            } else {
                staged.mark();
                model.write(changes);
            }
            assert_same(&staged, &model, &mut dice, "staged")?;
        }
        store.write(staged.into_changes())?;
        assert_same(&store.view()?, &model, &mut dice, "written")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_in_memory_conform() -> Result<(), Fault> {
        run(MemTables::new)
    }
}
