//! Taking turns: who may take part in which round of DP-FTRL.

use rand_core::Rng;
use umbel_accounting::SamplingRate;
use umbel_accounting::matrix::{MatrixError, Participation};

use crate::sampling::poisson_cohort;
use crate::source::CohortSource;

/// Clients take turns: each belongs to one of `separation` groups, drawn for it alone, and round t is the turn of group
/// (t − 1) mod `separation`; each client of the group then joins with the same probability. Where there are more turns in the
/// run than `participations`, each client is given that many of them, drawn for it alone.
///
/// So any two participations of a client are at least `separation` rounds apart and there are at most `participations`, by
/// construction and without any memory of earlier rounds. All draws of a client depend on (source, round, client) only: when
/// others take part does not depend on whether it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turns {
    separation: u64,
    participations: u64,
    /// Turns that each group has, the last of which the end of the run may cut off.
    n_turns: u64,
    rate: SamplingRate,
}

/// Why clients cannot take turns so.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnsError {
    /// The cohort is larger than all who may take part.
    #[error(
        "a cohort of {cohort} is more than may take part in a round: with every client at least {separation} rounds apart and \
         in at most {participations} of {rounds} rounds these are {most} of {population} on average"
    )]
    Cohort {
        /// The expected size that was asked for.
        cohort: f64,
        /// The largest that is possible.
        most: f64,
        /// Number of clients.
        population: u64,
        /// Rounds between two participations.
        separation: u64,
        /// Most participations.
        participations: u64,
        /// Rounds of the run.
        rounds: u64,
    },
    /// A separation, a number of participations or a number of rounds of 0.
    #[error("separation, participations and rounds must be at least 1")]
    Zero,
}

impl Turns {
    /// Turns for an expected `cohort` out of `population` clients over `rounds` rounds. `participations` is the most that a
    /// client may have; absent or above the number of turns means one for each turn.
    pub fn new(
        separation: u64,
        participations: Option<u64>,
        rounds: u64,
        cohort: f64,
        population: u64,
    ) -> Result<Self, TurnsError> {
        if separation == 0 || participations == Some(0) || rounds == 0 {
            return Err(TurnsError::Zero);
        }
        let n_turns = rounds.div_ceil(separation);
        let participations = participations.unwrap_or(n_turns).min(n_turns);
        let most = population as f64 * participations as f64 / (n_turns as f64 * separation as f64);
        // A quotient of equal numbers may come out a hair above 1.
        let rate = SamplingRate::new(if cohort > most && cohort <= most * (1.0 + 1e-12) {
            1.0
        } else {
            cohort / most
        });
        match rate {
            Ok(rate) if cohort > 0.0 => Ok(Self {
                separation,
                participations,
                n_turns,
                rate,
            }),
            _ => Err(TurnsError::Cohort {
                cohort,
                most,
                population,
                separation,
                participations,
                rounds,
            }),
        }
    }

    /// Rounds from one participation of a client to the next, at least.
    pub fn separation(&self) -> u64 {
        self.separation
    }

    /// The most participations of a client.
    pub fn participations(&self) -> u64 {
        self.participations
    }

    /// The probability with which a client takes a turn that it is given.
    pub fn rate(&self) -> SamplingRate {
        self.rate
    }

    /// Clients that take part in a round on average.
    pub fn expected_cohort(&self, population: u64) -> f64 {
        population as f64 * self.rate.value() * self.participations as f64
            / (self.n_turns as f64 * self.separation as f64)
    }

    /// Whether every client is given every turn of its group.
    pub fn gives_every_turn(&self) -> bool {
        self.participations == self.n_turns
    }

    /// The promise that a sensitivity rests on.
    pub fn participation(&self) -> Result<Participation, MatrixError> {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Participation::min_separation(size(self.separation), Some(size(self.participations)))
    }

    /// The clients of `round`, counted from 1, in ascending order.
    pub fn cohort(&self, source: &CohortSource, round: u64, population: u64) -> Vec<u64> {
        let turn = (round - 1) / self.separation;
        let group = (round - 1) % self.separation;
        let mut groups = source.group_stream();
        let mut next = 0;
        let mut cohort = poisson_cohort(source, round, population, self.rate);
        cohort.retain(|&client| {
            // Word pair i of the stream is client i's.
            if client > next {
                groups.skip_words(2 * client);
            }
            next = client + 1;
            scaled(groups.next_u64(), self.separation) == group && self.is_given(source, client, turn)
        });
        cohort
    }

    /// Whether a turn of its group is among those that the client is given: a uniform subset, found by going through all turns
    /// (Knuth, "The Art of Computer Programming" 2, 3.4.2, Algorithm S).
    fn is_given(&self, source: &CohortSource, client: u64, turn: u64) -> bool {
        if self.gives_every_turn() {
            return true;
        }
        let mut stream = source.turns_stream(client);
        let mut left = self.participations;
        for at in 0..=turn {
            let taken = scaled(stream.next_u64(), self.n_turns - at) < left;
            if at == turn {
                return taken;
            }
            left -= u64::from(taken);
        }
        false
    }
}

/// A number below `bound` from 64 uniform bits; no probability is off by more than 2^-64.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the upper half of a product with a 64-bit number"
)]
fn scaled(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SimulationSeed;
    use crate::statistics::check_z;

    fn source(seed: u64) -> CohortSource {
        CohortSource::simulated(SimulationSeed::new(seed))
    }

    #[test]
    fn nobody_comes_too_soon_or_too_often() {
        let (rounds, population) = (47, 200);
        for (separation, participations, cohort) in [
            (1, None, 150.0),
            (7, None, 28.0),
            (7, Some(3), 10.0),
            (10, Some(1), 3.0),
            (60, None, 3.0),
        ] {
            let turns = Turns::new(separation, participations, rounds, cohort, population).unwrap();
            let mut taken = vec![Vec::new(); 200];
            for round in 1..=rounds {
                for client in turns.cohort(&source(1), round, population) {
                    taken[usize::try_from(client).unwrap()].push(round);
                }
            }
            assert!(taken.iter().any(|rounds| !rounds.is_empty()));
            for rounds in taken {
                assert!(rounds.len() as u64 <= turns.participations());
                assert!(
                    rounds.windows(2).all(|pair| pair[1] - pair[0] >= separation),
                    "{rounds:?}"
                );
            }
        }
    }

    #[test]
    fn cohorts_have_the_expected_size() {
        // A z-test of the mean over all rounds and seeds, false-alarm rate 1e-6. A client's participations have at most the
        // variance of as many independent coins, so a round's cohort counts with at most its mean.
        let (rounds, population, cohort) = (24, 1_000, 60.0);
        for participations in [None, Some(2)] {
            let turns = Turns::new(4, participations, rounds, cohort, population).unwrap();
            let sizes: usize = (0..40)
                .map(|seed| {
                    (1..=rounds)
                        .map(|round| turns.cohort(&source(seed), round, population).len())
                        .sum::<usize>()
                })
                .sum();
            let n = 40.0 * 24.0;
            let mean = sizes as f64 / n;
            check_z((mean - cohort) / (cohort / n).sqrt(), "mean cohort size");
        }
    }

    #[test]
    fn others_do_not_depend_on_who_is_there() {
        let turns = Turns::new(5, Some(2), 30, 20.0, 500).unwrap();
        for round in 1..=30 {
            let few: Vec<_> = turns.cohort(&source(3), round, 400);
            let many: Vec<_> = turns.cohort(&source(3), round, 500);
            assert_eq!(
                few,
                many.into_iter()
                    .filter(|&client| client < 400)
                    .collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_cohort_that_separation_does_not_allow_is_refused() {
        let error = Turns::new(10, None, 100, 21.0, 200).unwrap_err();
        assert!(error.to_string().contains("these are 20 of 200"), "{error}");
        assert!(Turns::new(10, None, 100, 20.0, 200).is_ok());
        assert!(Turns::new(10, Some(5), 100, 10.5, 200).is_err());
        assert_eq!(Turns::new(0, None, 1, 1.0, 1), Err(TurnsError::Zero));
    }
}
