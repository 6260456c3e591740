//! New inputs from old ones.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap_or(0)
    }
}

/// Numbers at which something ends.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65535",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e999",
    "0.1",
];

/// Bytes at which an encoding of numbers ends.
const BYTES: [u8; 12] = [0, 1, 0x7f, 0x80, 0xc0, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, b'\n'];

/// The largest numbers as bincode writes them, of 64, 32 and 16 bits; with a sign they are the smallest and the largest.
const VARINTS: [&[u8]; 4] = [
    &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfc, 0xff, 0xff, 0xff, 0xff],
    &[0xfb, 0xff, 0xff],
];

/// Makes one input of the others.
pub(crate) fn mutate(chance: &mut Chance, inputs: &[Vec<u8>], words: &[&str], longest: usize) -> Vec<u8> {
    let mut input = inputs[chance.below(inputs.len())].clone();
    for _ in 0..=chance.below(5) {
        let at = chance.below(input.len() + 1);
        match chance.below(12) {
            0 if !input.is_empty() => {
                let place = chance.below(input.len());
                input[place] ^= 1 << chance.below(8);
            }
            1 if !input.is_empty() => {
                let place = chance.below(input.len());
                input[place] = BYTES[chance.below(BYTES.len())];
            }
            2 => input.insert(at, BYTES[chance.below(BYTES.len())]),
            3 if !input.is_empty() => {
                let from = chance.below(input.len());
                let to = (from + 1 + chance.below(16)).min(input.len());
                input.drain(from..to);
            }
            4 => strew(&mut input, at, NUMBERS[chance.below(NUMBERS.len())]),
            5 | 6 if !words.is_empty() => strew(&mut input, at, words[chance.below(words.len())]),
            // A piece of it again, perhaps many times.
            7 if !input.is_empty() => {
                let from = chance.below(input.len());
                let piece = input[from..(from + 1 + chance.below(32)).min(input.len())].to_vec();
                let most = if chance.below(8) == 0 { 200 } else { 2 };
                for _ in 0..=chance.below(most) {
                    input.splice(at..at, piece.iter().copied());
                }
            }
            8 => input.truncate(at),
            // A number in a record, of whatever length it was.
            10 if !input.is_empty() => {
                let from = chance.below(input.len());
                let length = match input[from] {
                    0xfb => 3,
                    0xfc => 5,
                    0xfd => 9,
                    _ => 1,
                };
                let to = (from + length).min(input.len());
                input.splice(from..to, VARINTS[chance.below(VARINTS.len())].iter().copied());
            }
            // The head of this and the tail of another.
            9 => {
                let other = &inputs[chance.below(inputs.len())];
                let from = chance.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => number(chance, &mut input),
        }
    }
    input.truncate(longest);
    input
}

fn strew(input: &mut Vec<u8>, at: usize, word: &str) {
    input.splice(at..at, word.bytes());
}

/// Replaces a decimal number in a text.
fn number(chance: &mut Chance, input: &mut Vec<u8>) {
    let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
    if digits.is_empty() {
        return;
    }
    let mut from = digits[chance.below(digits.len())];
    while from > 0 && input[from - 1].is_ascii_digit() {
        from -= 1;
    }
    let to = (from..input.len())
        .find(|at| !input[*at].is_ascii_digit())
        .unwrap_or(input.len());
    let new = if chance.below(2) == 0 {
        NUMBERS[chance.below(NUMBERS.len())].to_owned()
    } else {
        chance.below(100).to_string()
    };
    input.splice(from..to, new.bytes());
}
