//! From text to the numbers of its words.

use std::sync::Arc;

use crate::reader::{Vocabulary, WordWeights};

/// Stands before the first word where a text is shorter than the longest.
pub const PADDING_TOKEN: u32 = 0;

/// Begins every text.
pub const START_TOKEN: u32 = 1;

/// Stands for every word that is not among the most frequent ones.
pub const UNKNOWN_TOKEN: u32 = 2;

/// What is added to the rank of a word. With ranks from 1 on, token 3 is never used, as in the Keras data set.
pub const RANK_OFFSET: u32 = 3;

/// Characters that separate words besides the space: Keras' default `filters`. The apostrophe is none of them.
const FILTERED: &str = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n";

/// Turns text into tokens as `keras.datasets.imdb` has them, or with hashes of words in place of their ranks.
///
/// Text is put in lower case, the characters ``!"#$%&()*+,-./:;<=>?@[\]^_`{|}~``, tab and line feed become spaces, and it is cut
/// at spaces (Keras' `text_to_word_sequence`). Token 0 is padding, 1 begins a text, 2 is an unknown word, and a word of rank r has
/// token r + 3. Tokens are below `words`, Keras' `num_words`: the table of embeddings has `words` rows, and the words of ranks 1 to
/// `words - 4` are known. A text of more than `max_length` tokens keeps the **last** ones, and a shorter one is padded in
/// front, as Keras' `pad_sequences` does by default.
///
/// A [hashing](Self::hashed) tokenizer needs no vocabulary: a word has token 4 + (hash mod number of buckets), so that every word is
/// known and some share a token. The hash is 64-bit FNV-1a over the word's UTF-8 bytes, the same everywhere.
///
/// All of it is public: see [`Vocabulary`].
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenizer {
    words: Words,
    n_tokens: u32,
    max_length: usize,
    weights: Option<Arc<[f32]>>,
}

/// Which token a word has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Words {
    Hashed,
    Ranked(Vocabulary),
}

/// Why a [`Tokenizer`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// Nothing to hash words into.
    #[error("hash_buckets must be from 2 to {limit}, got {got}")]
    Buckets {
        /// The most.
        limit: usize,
        /// The number that came.
        got: usize,
    },
    /// No text could have a token.
    #[error("max_length must be from 1 to {limit}, got {got}")]
    MaxLength {
        /// The most.
        limit: usize,
        /// The number that came.
        got: usize,
    },
    /// The table has no room for a word, or more rows than are supported.
    #[error("words must be from 5 (four tokens have other uses) to {limit}, got {got}")]
    Words {
        /// The most.
        limit: usize,
        /// The number that came.
        got: usize,
    },
}

impl Tokenizer {
    /// The largest number of tokens: every one is exact as an `f32`.
    pub const MAX_WORDS: usize = 1 << 24;

    /// The largest `max_length`.
    pub const MAX_LENGTH: usize = 1 << 20;

    /// A tokenizer with tokens below `words`, and at most `max_length` of them a text.
    pub fn new(vocabulary: Vocabulary, words: usize, max_length: usize) -> Result<Self, TokenizerError> {
        let limit = Self::MAX_WORDS;
        match u32::try_from(words) {
            Ok(n_tokens @ 5..) if words <= limit => {
                Self::with(Words::Ranked(vocabulary), n_tokens, max_length)
            }
            _ => Err(TokenizerError::Words { limit, got: words }),
        }
    }

    /// A tokenizer that hashes words into `n_buckets` tokens.
    pub fn hashed(n_buckets: usize, max_length: usize) -> Result<Self, TokenizerError> {
        let limit = Self::MAX_WORDS - FIRST_WORD as usize;
        match u32::try_from(n_buckets) {
            Ok(buckets @ 2..) if n_buckets <= limit => {
                Self::with(Words::Hashed, FIRST_WORD + buckets, max_length)
            }
            _ => Err(TokenizerError::Buckets {
                limit,
                got: n_buckets,
            }),
        }
    }

    fn with(words: Words, n_tokens: u32, max_length: usize) -> Result<Self, TokenizerError> {
        let limit = Self::MAX_LENGTH;
        if !(1..=limit).contains(&max_length) {
            return Err(TokenizerError::MaxLength {
                limit,
                got: max_length,
            });
        }
        Ok(Self {
            words,
            n_tokens,
            max_length,
            weights: None,
        })
    }

    /// The same with what an occurrence of each word counts, for models that weight words. A word that is not listed is taken to be as
    /// rare as the rarest one; words that share a token have the smallest of their weights, that of the most frequent of them.
    pub fn with_weights(self, weights: &WordWeights) -> Self {
        let mut of_tokens = vec![f32::INFINITY; self.n_tokens as usize];
        for (word, weight) in weights.iter() {
            let token = self.token(word);
            if token != UNKNOWN_TOKEN {
                let slot = &mut of_tokens[token as usize];
                *slot = slot.min(weight);
            }
        }
        for weight in of_tokens.iter_mut().filter(|weight| weight.is_infinite()) {
            *weight = weights.largest();
        }
        Self {
            weights: Some(of_tokens.into()),
            ..self
        }
    }

    /// Number of distinct tokens; every token is below it.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens as usize
    }

    /// The most tokens of a text.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// What an occurrence of each token counts, `[n_tokens]`; `None` where all count alike.
    pub fn weights(&self) -> Option<&Arc<[f32]>> {
        self.weights.as_ref()
    }

    /// Appends the tokens of `text`, without padding: from 1 to [`max_length`](Self::max_length) of them.
    pub fn encode(&self, text: &str, tokens: &mut Vec<u32>) {
        let begin = tokens.len();
        tokens.push(START_TOKEN);
        let text = text.to_lowercase();
        let words = text.split(|character| character == ' ' || FILTERED.contains(character));
        tokens.extend(words.filter(|word| !word.is_empty()).map(|word| self.token(word)));
        let length = tokens.len() - begin;
        if length > self.max_length {
            tokens.drain(begin..begin + length - self.max_length);
        }
    }

    fn token(&self, word: &str) -> u32 {
        match &self.words {
            Words::Hashed => {
                let n_buckets = u64::from(self.n_tokens - FIRST_WORD);
                // Below `n_tokens`, which is a `u32`.
                u32::try_from(fnv1a(word.as_bytes()) % n_buckets)
                    .map_or(UNKNOWN_TOKEN, |bucket| FIRST_WORD + bucket)
            }
            Words::Ranked(vocabulary) => {
                let token = vocabulary
                    .rank(word)
                    .and_then(|rank| rank.checked_add(RANK_OFFSET));
                token
                    .filter(|&token| token < self.n_tokens)
                    .unwrap_or(UNKNOWN_TOKEN)
            }
        }
    }
}

/// The first token of a word.
const FIRST_WORD: u32 = RANK_OFFSET + 1;

/// 64-bit FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{read_vocabulary, read_word_weights};
    use crate::test_files::write;

    fn tokenizer(words: usize, max_length: usize) -> Result<Tokenizer, TokenizerError> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(
            folder.path(),
            "words",
            "the\nand\nit's\nbr\nfilm\nstraße\n".as_bytes(),
        );
        Tokenizer::new(read_vocabulary(&path).unwrap(), words, max_length)
    }

    fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let mut tokens = vec![99];
        tokenizer.encode(text, &mut tokens);
        assert_eq!(tokens.remove(0), 99, "tokens are appended");
        tokens
    }

    /// Expected values by the rules of Keras' `text_to_word_sequence` and `imdb.load_data`, worked by hand.
    #[test]
    fn tokens_are_those_of_keras() {
        let tokenizer = tokenizer(100, 20).unwrap();
        let check = |text: &str, expected: &[u32]| assert_eq!(encode(&tokenizer, text), expected, "{text}");
        check("The film AND the-film.", &[1, 4, 8, 5, 4, 8]);
        check("It's\t(the) \"film\"!<br />", &[1, 6, 4, 8, 7]);
        check("its the_film 'the'", &[1, 2, 4, 8, 2]);
        check("  ", &[1]);
        check("", &[1]);
        check("STRASSE Straße the\u{a0}film", &[1, 2, 9, 2]);
    }

    #[test]
    fn rare_words_are_unknown_and_the_end_of_a_long_text_is_kept() {
        // Tokens below 7 are those of ranks 1 to 3.
        let tokenizer = tokenizer(7, 4).unwrap();
        assert_eq!(encode(&tokenizer, "the and it's br film"), [5, 6, 2, 2]);
        assert_eq!(encode(&tokenizer, "the and it's"), [1, 4, 5, 6]);
        assert_eq!(encode(&tokenizer, "the"), [1, 4]);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let message = |words, max_length| tokenizer(words, max_length).unwrap_err().to_string();
        assert_eq!(
            message(4, 10),
            "words must be from 5 (four tokens have other uses) to 16777216, got 4"
        );
        assert_eq!(message(10, 0), "max_length must be from 1 to 1048576, got 0");
        assert!(tokenizer(Tokenizer::MAX_WORDS + 1, 10).is_err());
        assert!(tokenizer(10, Tokenizer::MAX_LENGTH + 1).is_err());
        assert_eq!(tokenizer(5, 1).unwrap().n_tokens(), 5);
    }

    /// FNV-1a's published test vectors (draft-eastlake-fnv, appendix C).
    #[test]
    fn the_hash_is_the_published_one() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn hashed_words_need_no_vocabulary() {
        let tokenizer = Tokenizer::hashed(1000, 20).unwrap();
        assert_eq!(tokenizer.n_tokens(), 1004);
        let token = |word: &str| 4 + u32::try_from(fnv1a(word.as_bytes()) % 1000).unwrap();
        let expected = [1, token("the"), token("film"), token("isn't"), token("the")];
        assert_eq!(encode(&tokenizer, "The film isn't... the"), expected);
        for (buckets, max_length) in [(0, 9), (1, 9), (Tokenizer::MAX_WORDS, 9), (9, 0)] {
            let error = Tokenizer::hashed(buckets, max_length).unwrap_err().to_string();
            assert!(error.contains(" must be from "), "{error}");
        }
    }

    #[test]
    fn words_of_one_token_have_the_weight_of_the_most_frequent() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "idf", b"the\t1\nfilm\t3\nunheard\t8\nit's\t2\n");
        let weights = read_word_weights(&path).unwrap();
        let ranked = tokenizer(100, 20).unwrap().with_weights(&weights);
        let of = |tokenizer: &Tokenizer, word: &str| {
            tokenizer.weights().unwrap()[tokenizer.token(word) as usize].to_bits()
        };
        for (word, weight) in [
            ("the", 1.0_f32),
            ("it's", 2.0),
            ("film", 3.0),
            ("and", 8.0),
            ("nowhere", 8.0),
        ] {
            assert_eq!(of(&ranked, word), weight.to_bits(), "{word}");
        }
        // Of 2 buckets each holds the smallest weight of its words.
        let hashed = Tokenizer::hashed(2, 20).unwrap().with_weights(&weights);
        let all = [("the", 1.0_f32), ("film", 3.0), ("unheard", 8.0), ("it's", 2.0)];
        for (word, _) in all {
            let sharing = all
                .iter()
                .filter(|(other, _)| hashed.token(other) == hashed.token(word));
            let smallest = sharing.map(|(_, weight)| *weight).fold(f32::INFINITY, f32::min);
            assert_eq!(of(&hashed, word), smallest.to_bits(), "{word}");
        }
    }
}
