//! The stored form of a noise state.
//!
//! All numbers little-endian: magic `UCN1`; kind (1 byte); dimension, rounds planned and rounds done (8 bytes
//! each); the strategy (counts as 8 bytes, parameters as the bits of f64); then the kept rows as the bits of
//! f64. Their number follows from the rest.

use umbel_accounting::matrix::{
    BufferedToeplitz, MatrixError, ToeplitzStrategy, TreeEstimator, TreeStrategy,
};
use zeroize::Zeroizing;

use super::{
    InverseError, Kernel, Row, StrategyInverse, banded::Banded, buffered::Buffered, tree::Tree, zero_row,
};

const MAGIC: &[u8; 4] = b"UCN1";
const BANDED: u8 = 1;
const BUFFERED: u8 = 2;
const TREE_BINARY: u8 = 3;
const TREE_FROM_BELOW: u8 = 4;

pub(super) fn encode(noise: &StrategyInverse) -> Zeroizing<Vec<u8>> {
    // Reserved at once: a buffer that grows leaves copies of the secret behind.
    let n_parameters = match &noise.kernel {
        Kernel::Banded(banded) => banded.strategy().n_bands() + 1,
        Kernel::Buffered(buffered) => 2 * buffered.strategy().n_buffers() + 1,
        Kernel::Tree(_) => 1,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(29 + 8 * (n_parameters + noise.n_kept())));
    bytes.extend_from_slice(MAGIC);
    bytes.push(match &noise.kernel {
        Kernel::Banded(_) => BANDED,
        Kernel::Buffered(_) => BUFFERED,
        Kernel::Tree(tree) => match tree.strategy().estimator() {
            TreeEstimator::Binary => TREE_BINARY,
            TreeEstimator::FromBelow => TREE_FROM_BELOW,
        },
    });
    bytes.extend_from_slice(&(noise.dimension as u64).to_le_bytes());
    bytes.extend_from_slice(&noise.most_rounds.to_le_bytes());
    bytes.extend_from_slice(&noise.n_rounds.to_le_bytes());
    let put = |bytes: &mut Vec<u8>, numbers: &[f64]| {
        numbers
            .iter()
            .for_each(|number| bytes.extend_from_slice(&number.to_bits().to_le_bytes()));
    };
    match &noise.kernel {
        Kernel::Banded(banded) => {
            bytes.extend_from_slice(&(banded.strategy().n_bands() as u64).to_le_bytes());
            put(&mut bytes, banded.strategy().coefficients());
        }
        Kernel::Buffered(buffered) => {
            bytes.extend_from_slice(&(buffered.strategy().n_buffers() as u64).to_le_bytes());
            put(&mut bytes, buffered.strategy().decays());
            put(&mut bytes, buffered.strategy().scales());
        }
        Kernel::Tree(tree) => {
            bytes.extend_from_slice(&(tree.strategy().rounds_per_tree() as u64).to_le_bytes());
        }
    }
    noise.rows().iter().for_each(|row| put(&mut bytes, row));
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<StrategyInverse, InverseError> {
    let mut reader = Reader { bytes };
    if reader.take(4)? != MAGIC {
        return Err(bad("the magic `UCN1`", "other bytes"));
    }
    let kind = reader.take(1)?[0];
    let dimension = reader.count("a dimension")?;
    let most_rounds = reader.number()?;
    let n_rounds = reader.number()?;
    if n_rounds > most_rounds {
        return Err(bad(format!("at most {most_rounds} rounds done"), n_rounds));
    }
    let kernel = match kind {
        BANDED => {
            let n_bands = reader.count("a number of bands")?;
            let strategy = ToeplitzStrategy::new(reader.floats(n_bands)?.to_vec()).map_err(bad_strategy)?;
            let n_rows = Banded::n_rows(&strategy, n_rounds);
            Kernel::Banded(Banded::with_rows(strategy, reader.rows(n_rows, dimension)?))
        }
        BUFFERED => {
            let n_buffers = reader.count("a number of buffers")?;
            let decays = reader.floats(n_buffers)?.to_vec();
            let scales = reader.floats(n_buffers)?.to_vec();
            let strategy = BufferedToeplitz::new(decays, scales).map_err(bad_strategy)?;
            Kernel::Buffered(Buffered::with_rows(strategy, reader.rows(n_buffers, dimension)?))
        }
        TREE_BINARY | TREE_FROM_BELOW => {
            let estimator = if kind == TREE_BINARY {
                TreeEstimator::Binary
            } else {
                TreeEstimator::FromBelow
            };
            let per_tree = reader.count("rounds per tree")?;
            let strategy = TreeStrategy::restarted(estimator, per_tree).map_err(bad_strategy)?;
            let n_rows = Tree::n_rows(&strategy, n_rounds);
            Kernel::Tree(Tree::with_rows(strategy, reader.rows(n_rows, dimension)?))
        }
        other => return Err(bad("a kind from 1 to 4", other)),
    };
    if !reader.bytes.is_empty() {
        return Err(bad("the end", format!("{} more bytes", reader.bytes.len())));
    }
    Ok(StrategyInverse {
        dimension,
        most_rounds,
        n_rounds,
        kernel,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InverseError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or_else(|| bad(format!("{count} more bytes"), self.bytes.len()))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, InverseError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn count(&mut self, what: &'static str) -> Result<usize, InverseError> {
        let number = self.number()?;
        usize::try_from(number).map_err(|_| bad(format!("{what} that fits this machine"), number))
    }

    /// Takes the bytes first, so that a wrong count is refused before anything is allocated for it.
    fn floats(&mut self, count: usize) -> Result<Row, InverseError> {
        let n_bytes = count
            .checked_mul(8)
            .ok_or_else(|| bad("a number of parameters that fits", count))?;
        let bytes = self.take(n_bytes)?;
        let mut row = zero_row(count)?;
        for (number, chunk) in row.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut bits = [0; 8];
            bits.copy_from_slice(chunk);
            *number = f64::from_bits(u64::from_le_bytes(bits));
            if !number.is_finite() {
                return Err(bad("finite numbers", "another one"));
            }
        }
        Ok(row)
    }

    fn rows(&mut self, count: usize, dimension: usize) -> Result<Vec<Row>, InverseError> {
        let n_bytes = count.checked_mul(dimension).and_then(|n| n.checked_mul(8));
        if n_bytes != Some(self.bytes.len()) {
            return Err(bad(
                format!("{count} rows of {dimension} numbers"),
                format!("{} bytes", self.bytes.len()),
            ));
        }
        if dimension == 0 {
            let mut rows = Vec::new();
            rows.try_reserve_exact(count)
                .map_err(|_| InverseError::OutOfMemory { expected: count })?;
            rows.resize_with(count, || Zeroizing::new(Vec::new()));
            return Ok(rows);
        }
        (0..count).map(|_| self.floats(dimension)).collect()
    }
}

fn bad(expected: impl ToString, got: impl ToString) -> InverseError {
    InverseError::State {
        expected: expected.to_string(),
        got: got.to_string(),
    }
}

fn bad_strategy(error: MatrixError) -> InverseError {
    bad("a valid strategy", error)
}
