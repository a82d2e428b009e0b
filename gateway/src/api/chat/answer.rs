//! Puts an answer together from chunks that may be lost or repeated. Pure.

/// What the listener of a stream has so far.
#[derive(Debug, Default)]
pub(super) struct Assembly(String);

impl Assembly {
    /// Takes a chunk that starts at byte `offset`. Returns from where the listener must
    /// append what, or `None` when there is nothing to tell: a repetition, or a chunk
    /// behind a gap, which the end fills.
    pub(super) fn chunk(&mut self, offset: usize, text: &str) -> Option<(usize, String)> {
        if offset > self.0.len() || !self.0.is_char_boundary(offset) {
            return None;
        }
        if self.0[offset..].starts_with(text) {
            return None;
        }
        self.0.truncate(offset);
        self.0.push_str(text);
        Some((offset, text.to_owned()))
    }

    /// Takes the whole answer. What it returns makes the listener's text equal to it.
    pub(super) fn whole(&mut self, answer: &str) -> Option<(usize, String)> {
        let same = self.0.bytes().zip(answer.bytes()).take_while(|(a, b)| a == b).count();
        let mut keep = same;
        while !(answer.is_char_boundary(keep) && self.0.is_char_boundary(keep)) {
            keep -= 1;
        }
        if keep == answer.len() && keep == self.0.len() {
            return None;
        }
        answer.clone_into(&mut self.0);
        Some((keep, answer[keep..].to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client has after it followed every instruction.
    fn follow(chunks: &[(usize, &str)], answer: &str) -> (String, usize) {
        let mut assembly = Assembly::default();
        let mut text = String::new();
        let mut told = 0;
        let instructions = chunks.iter().map(|c| Some(*c)).chain([None]);
        for chunk in instructions {
            let step = match chunk {
                Some((offset, chunk)) => assembly.chunk(offset, chunk),
                None => assembly.whole(answer),
            };
            if let Some((offset, more)) = step {
                text.truncate(offset);
                text.push_str(&more);
                told += 1;
            }
        }
        (text, told)
    }

    fn check(chunks: &[(usize, &str)], answer: &str, told: usize) {
        assert_eq!(follow(chunks, answer), (answer.to_owned(), told), "{chunks:?}");
    }

    #[test]
    fn the_client_ends_with_the_answer_whatever_was_lost_or_repeated() {
        check(&[(0, "Hel"), (3, "lo")], "Hello", 2);
        check(&[], "Hello", 1);
        check(&[(0, "Hel")], "Hello", 2);
        check(&[(0, "Hel"), (4, "o")], "Hello", 2);
        check(&[(0, "Hel"), (0, "Hel"), (3, "lo")], "Hello", 2);
        check(&[(0, "Hel"), (0, "Bye")], "Bye", 2);
        check(&[(0, "Help")], "Hello", 2);
        check(&[(0, "é"), (1, "x")], "éa", 2);
        check(&[(0, "é")], "è", 2);
        check(&[(0, "too long")], "too", 2);
    }
}
