//! From text to the numbers of its words.

use crate::reader::Vocabulary;

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

/// Turns text into tokens as `keras.datasets.imdb` has them.
///
/// Text is put in lower case, the characters ``!"#$%&()*+,-./:;<=>?@[\]^_`{|}~``, tab and line feed become spaces, and it is cut
/// at spaces (Keras' `text_to_word_sequence`). Token 0 is padding, 1 begins a text, 2 is an unknown word, and a word of rank r has
/// token r + 3. Tokens are below `words`, Keras' `num_words`: the table of embeddings has `words` rows, and the words of ranks 1 to
/// `words - 4` are known. A text of more than `max_length` tokens keeps the **last** ones, and a shorter one is padded in
/// front, as Keras' `pad_sequences` does by default.
///
/// All of it is public: see [`Vocabulary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    words: u32,
    max_length: usize,
}

/// Why a [`Tokenizer`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
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
    /// The largest `words`: every token is exact as an `f32`.
    pub const MAX_WORDS: usize = 1 << 24;

    /// The largest `max_length`.
    pub const MAX_LENGTH: usize = 1 << 20;

    /// A tokenizer with tokens below `words`, and at most `max_length` of them a text.
    pub fn new(vocabulary: Vocabulary, words: usize, max_length: usize) -> Result<Self, TokenizerError> {
        let limit = Self::MAX_LENGTH;
        if !(1..=limit).contains(&max_length) {
            return Err(TokenizerError::MaxLength {
                limit,
                got: max_length,
            });
        }
        let limit = Self::MAX_WORDS;
        match u32::try_from(words) {
            Ok(n_words @ 5..) if words <= limit => Ok(Self {
                vocabulary,
                words: n_words,
                max_length,
            }),
            _ => Err(TokenizerError::Words { limit, got: words }),
        }
    }

    /// Number of distinct tokens; every token is below it.
    pub fn n_tokens(&self) -> usize {
        self.words as usize
    }

    /// The most tokens of a text.
    pub fn max_length(&self) -> usize {
        self.max_length
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
        let token = self
            .vocabulary
            .rank(word)
            .and_then(|rank| rank.checked_add(RANK_OFFSET));
        token.filter(|&token| token < self.words).unwrap_or(UNKNOWN_TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::read_vocabulary;
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
}
