//! When one unit takes part.

use super::MatrixError;

/// In which sets of rounds one unit may take part; the promise that a sensitivity rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Participation {
    pattern: Pattern,
    separation: usize,
    most: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    MinSeparation,
    FixedEpoch,
}

impl Participation {
    /// In one round at most, whichever it is.
    pub fn single() -> Self {
        Self {
            pattern: Pattern::MinSeparation,
            separation: 1,
            most: 1,
        }
    }

    /// Any two participations are at least `separation` rounds apart (b; 1 allows every round), and there are
    /// at most `most` of them (k; `None` for as many as fit).
    ///
    /// This is b-min-separation of Choquette-Choo et al. 2023 (arXiv 2306.08153). A client can enforce it by
    /// itself: it remembers the last round that it answered and how many there were.
    pub fn min_separation(separation: usize, most: Option<usize>) -> Result<Self, MatrixError> {
        Self::new(Pattern::MinSeparation, separation, most)
    }

    /// Every `period` rounds exactly, starting at any round of the first period, at most `most` times.
    ///
    /// This is (k, b)-participation with fixed epoch order (Choquette-Choo et al. 2022, arXiv 2211.06530). A
    /// unit that misses a turn keeps to it; a unit that comes off its turn does not.
    pub fn fixed_epoch(period: usize, most: Option<usize>) -> Result<Self, MatrixError> {
        Self::new(Pattern::FixedEpoch, period, most)
    }

    fn new(pattern: Pattern, separation: usize, most: Option<usize>) -> Result<Self, MatrixError> {
        if separation == 0 {
            return Err(MatrixError::out_of_range(
                "separation",
                "at least 1 round",
                separation,
            ));
        }
        if most == Some(0) {
            return Err(MatrixError::out_of_range("most participations", "at least 1", 0));
        }
        Ok(Self {
            pattern,
            separation,
            most: most.unwrap_or(usize::MAX),
        })
    }

    /// Rounds from one participation to the next, at least (b).
    pub fn separation(&self) -> usize {
        self.separation
    }

    /// The most participations that fit into `n_rounds` rounds: min(k, ⌈n / b⌉).
    pub fn most_in(&self, n_rounds: usize) -> usize {
        self.most.min(n_rounds.div_ceil(self.separation))
    }

    pub(super) fn pattern(&self) -> Pattern {
        self.pattern
    }
}

/// Every set of at most `most` of `n` rounds that keeps to the separation, for tests by brute force.
#[cfg(test)]
pub(super) fn patterns(
    n: usize,
    separation: usize,
    most: usize,
    fixed: bool,
) -> impl Iterator<Item = Vec<usize>> {
    let allowed = move |gap: usize| {
        if fixed {
            gap.is_multiple_of(separation)
        } else {
            gap >= separation
        }
    };
    (0_u32..1 << n)
        .map(move |mask| (0..n).filter(|i| mask >> i & 1 == 1).collect::<Vec<_>>())
        .filter(move |rounds| {
            rounds.len() <= most && rounds.windows(2).all(|pair| allowed(pair[1] - pair[0]))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn participations_are_limited_by_number_and_by_room() {
        assert_eq!(Participation::single().most_in(1000), 1);
        assert_eq!(
            Participation::min_separation(100, None).unwrap().most_in(1024),
            11
        );
        assert_eq!(
            Participation::min_separation(50, Some(4)).unwrap().most_in(1000),
            4
        );
        assert_eq!(Participation::fixed_epoch(341, Some(9)).unwrap().most_in(2048), 7);
        assert_eq!(
            Participation::min_separation(usize::MAX, None)
                .unwrap()
                .most_in(5),
            1
        );
    }

    #[test]
    fn impossible_patterns_are_refused() {
        assert_eq!(
            Participation::min_separation(0, None).unwrap_err().to_string(),
            "separation must be at least 1 round, got 0"
        );
        assert!(Participation::fixed_epoch(3, Some(0)).is_err());
    }
}
