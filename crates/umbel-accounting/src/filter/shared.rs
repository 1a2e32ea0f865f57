//! One budget for several runs on the same population.

use std::collections::BTreeMap;

use super::{
    FilterError, check_amount, check_limit,
    codec::{Reader, Writer},
    meter::Meter,
};
use crate::{Delta, Epsilon, Rho};

const KIND: u8 = 5;
const EPSILON_DELTA: u8 = 1;
const ZCDP: u8 = 2;
const GAUSSIAN: u8 = 3;

/// What one run costs as a whole, in one of three measures. A budget counts in one of them only.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever states a cost must know every measure"
)]
pub enum RunCost {
    /// (ε, δ) of the run's plan, by any accountant; δ is `None` for pure ε.
    EpsilonDelta {
        /// ε of the plan.
        epsilon: Epsilon,
        /// δ of the plan.
        delta: Option<Delta>,
    },
    /// μ of a run that is μ-Gaussian-DP, as matrix mechanisms and runs without sampling are.
    Gaussian {
        /// The parameter μ.
        mu: f64,
    },
    /// ρ of a run that is ρ-zCDP, as is any run under a [`super::ZcdpFilter`].
    Zcdp {
        /// The parameter ρ.
        rho: Rho,
    },
}

/// Shares of runs on one population, which together stay within a limit.
///
/// Each run takes its share before it starts: the cost of its whole plan, or the limit of its filter. Costs
/// add up: ε and δ by basic composition, ρ, or μ². For all three the rule is a filter (Rogers et al. 2016,
/// arXiv 1605.08294, for basic composition; see [`super::ZcdpFilter`] and [`super::GaussianFilter`]), so
/// later runs, and whether there are any, may depend on what earlier ones gave. Runs may also overlap in time
/// and be steered by each other's releases: every filter for (ε, δ), for divergences of a fixed order and for
/// trade-off functions holds for interactive mechanisms run concurrently (Haney et al. 2023, arXiv
/// 2309.05901).
///
/// Basic composition is loose for many runs. Where all runs are Gaussian-DP or zCDP, count in that measure
/// and convert once at the end; where their plans are all known before the first starts, one accountant over
/// all of them is tighter still and is then one plan. Runs on one population never cost only as much as the
/// largest of them.
///
/// A share is not given back when a run ends early, since the reason may lie in its outputs. Only a run of
/// which nothing was ever released can be [voided](Self::void).
#[derive(Debug, Clone, PartialEq)]
pub struct SharedBudget {
    limits: Limits,
    runs: BTreeMap<String, RunCost>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limits {
    EpsilonDelta { epsilon: Meter, delta: Meter },
    Gaussian { squares: Meter },
    Zcdp { rho: Meter },
}

impl SharedBudget {
    /// Longest name of a run, in bytes.
    pub const MAX_NAME_BYTES: usize = 1024;

    /// A limit on Σ ε and Σ δ; `None` if all runs are pure.
    pub fn epsilon_delta(epsilon: Epsilon, delta: Option<Delta>) -> Result<Self, FilterError> {
        let epsilon = Meter::new(check_limit("epsilon", epsilon.value())?);
        let delta = Meter::new(delta.map_or(0.0, Delta::value));
        Ok(Self {
            limits: Limits::EpsilonDelta { epsilon, delta },
            runs: BTreeMap::new(),
        })
    }

    /// A limit on √(Σ μ²).
    pub fn gaussian(mu: f64) -> Result<Self, FilterError> {
        check_limit("limit on mu", mu)?;
        let squares = Meter::new(check_limit("square of the limit on mu", mu * mu)?);
        Ok(Self {
            limits: Limits::Gaussian { squares },
            runs: BTreeMap::new(),
        })
    }

    /// A limit on Σ ρ.
    pub fn zcdp(limit: Rho) -> Result<Self, FilterError> {
        let rho = Meter::new(check_limit("limit on rho", limit.value())?);
        Ok(Self {
            limits: Limits::Zcdp { rho },
            runs: BTreeMap::new(),
        })
    }

    /// Takes a share for `run`, before it starts. Refuses a name that has one, another measure, and what
    /// would overspend.
    pub fn reserve(&mut self, run: &str, cost: RunCost) -> Result<(), FilterError> {
        if run.is_empty() || run.len() > Self::MAX_NAME_BYTES {
            return Err(FilterError::Run {
                run: run.chars().take(64).collect(),
                expected: "a name of 1 to 1024 bytes",
            });
        }
        if self.runs.contains_key(run) {
            return Err(FilterError::Run {
                run: run.into(),
                expected: "a run that has no share yet",
            });
        }
        self.limits = self.limits.charged(cost)?;
        self.runs.insert(run.into(), cost);
        Ok(())
    }

    /// Gives the share of `run` back. **Only valid if nothing that depends on the data was ever released by
    /// it**, not even that a round was aborted.
    pub fn void(&mut self, run: &str) -> Result<(), FilterError> {
        if self.runs.remove(run).is_none() {
            return Err(FilterError::Run {
                run: run.into(),
                expected: "a run that has a share",
            });
        }
        // Added up afresh in the order of names: differences would leave rounding behind.
        self.limits = self
            .runs
            .values()
            .fold(self.limits.emptied(), |limits, cost| limits.added(*cost));
        Ok(())
    }

    /// The runs that have a share, by name.
    pub fn runs(&self) -> impl Iterator<Item = (&str, RunCost)> {
        self.runs.iter().map(|(run, cost)| (run.as_str(), *cost))
    }

    /// What all runs together cost, in the budget's measure; for (ε, δ) ε alone.
    pub fn spent(&self) -> f64 {
        match self.limits {
            Limits::EpsilonDelta { epsilon, .. } => epsilon.spent(),
            Limits::Gaussian { squares } => squares.spent().sqrt(),
            Limits::Zcdp { rho } => rho.spent(),
        }
    }

    /// Σ δ of all runs where the budget counts it.
    pub fn spent_delta(&self) -> Option<f64> {
        match self.limits {
            Limits::EpsilonDelta { delta, .. } => Some(delta.spent()),
            Limits::Gaussian { .. } | Limits::Zcdp { .. } => None,
        }
    }

    /// The state, exactly.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND);
        match &self.limits {
            Limits::EpsilonDelta { epsilon, delta } => {
                writer.byte(EPSILON_DELTA);
                epsilon.write(&mut writer);
                delta.write(&mut writer);
            }
            Limits::Gaussian { squares } => {
                writer.byte(GAUSSIAN);
                squares.write(&mut writer);
            }
            Limits::Zcdp { rho } => {
                writer.byte(ZCDP);
                rho.write(&mut writer);
            }
        }
        writer.count(self.runs.len());
        for (run, cost) in &self.runs {
            writer.text(run);
            match cost {
                RunCost::EpsilonDelta { epsilon, delta } => {
                    writer.float(epsilon.value());
                    writer.float(delta.map_or(0.0, Delta::value));
                }
                RunCost::Gaussian { mu } => writer.float(*mu),
                RunCost::Zcdp { rho } => writer.float(rho.value()),
            }
        }
        writer.finish()
    }

    /// Reads what [`Self::encode`] wrote; refuses sums that are not those of the runs.
    pub fn decode(bytes: &[u8]) -> Result<Self, FilterError> {
        let mut reader = Reader::new(bytes, KIND)?;
        let measure = reader.byte()?;
        let limits = match measure {
            EPSILON_DELTA => Limits::EpsilonDelta {
                epsilon: Meter::read_kept(&mut reader)?,
                delta: Meter::read_kept(&mut reader)?,
            },
            GAUSSIAN => Limits::Gaussian {
                squares: Meter::read_kept(&mut reader)?,
            },
            ZCDP => Limits::Zcdp {
                rho: Meter::read_kept(&mut reader)?,
            },
            other => return Err(FilterError::state("a measure from 1 to 3", other)),
        };
        let mut runs = BTreeMap::new();
        for _ in 0..reader.count()? {
            let run = reader.text()?;
            let cost = match measure {
                EPSILON_DELTA => {
                    let epsilon = Epsilon::new(reader.float()?)?;
                    let delta = reader.float()?;
                    let delta = if delta.to_bits() == 0 {
                        None
                    } else {
                        Some(Delta::new(delta)?)
                    };
                    RunCost::EpsilonDelta { epsilon, delta }
                }
                GAUSSIAN => RunCost::Gaussian {
                    mu: check_amount("mu", reader.float()?)?,
                },
                _ => RunCost::Zcdp {
                    rho: Rho::new(reader.float()?)?,
                },
            };
            if runs
                .last_key_value()
                .is_some_and(|(last, _): (&String, _)| last.as_str() >= run)
            {
                return Err(FilterError::state("names in ascending order", format!("{run:?}")));
            }
            runs.insert(run.to_owned(), cost);
        }
        reader.finish()?;
        let expected = runs
            .values()
            .fold(limits.emptied(), |limits, cost| limits.added(*cost));
        if !expected.agrees_with(&limits) {
            return Err(FilterError::state(format!("{expected:?}"), format!("{limits:?}")));
        }
        Ok(Self { limits, runs })
    }
}

impl Limits {
    fn charged(&self, cost: RunCost) -> Result<Self, FilterError> {
        match (*self, cost) {
            (
                Self::EpsilonDelta { epsilon, delta },
                RunCost::EpsilonDelta {
                    epsilon: more,
                    delta: more_delta,
                },
            ) => Ok(Self::EpsilonDelta {
                epsilon: epsilon.charged("ε", more.value())?,
                delta: delta.charged("δ", more_delta.map_or(0.0, Delta::value))?,
            }),
            (Self::Gaussian { squares }, RunCost::Gaussian { mu }) => {
                check_amount("mu", mu)?;
                Ok(Self::Gaussian {
                    squares: squares.charged("Σ μ²", mu * mu)?,
                })
            }
            (Self::Zcdp { rho }, RunCost::Zcdp { rho: more }) => Ok(Self::Zcdp {
                rho: rho.charged("ρ", more.value())?,
            }),
            (limits, cost) => Err(FilterError::WrongKind {
                what: "cost of a run",
                expected: limits.measure().into(),
                got: format!("{cost:?}"),
            }),
        }
    }

    /// Without limits, for sums of costs that were accepted before.
    fn added(&self, cost: RunCost) -> Self {
        match (*self, cost) {
            (
                Self::EpsilonDelta { epsilon, delta },
                RunCost::EpsilonDelta {
                    epsilon: more,
                    delta: more_delta,
                },
            ) => Self::EpsilonDelta {
                epsilon: epsilon.added(more.value()),
                delta: delta.added(more_delta.map_or(0.0, Delta::value)),
            },
            (Self::Gaussian { squares }, RunCost::Gaussian { mu }) => Self::Gaussian {
                squares: squares.added(mu * mu),
            },
            (Self::Zcdp { rho }, RunCost::Zcdp { rho: more }) => Self::Zcdp {
                rho: rho.added(more.value()),
            },
            (limits, _) => limits,
        }
    }

    fn emptied(&self) -> Self {
        match self {
            Self::EpsilonDelta { epsilon, delta } => Self::EpsilonDelta {
                epsilon: Meter::new(epsilon.limit()),
                delta: Meter::new(delta.limit()),
            },
            Self::Gaussian { squares } => Self::Gaussian {
                squares: Meter::new(squares.limit()),
            },
            Self::Zcdp { rho } => Self::Zcdp {
                rho: Meter::new(rho.limit()),
            },
        }
    }

    /// Whether the sums are the same but for the order in which they were taken.
    fn agrees_with(&self, other: &Self) -> bool {
        let same = |a: &Meter, b: &Meter| (a.spent() - b.spent()).abs() <= 1e-12 * a.spent();
        match (self, other) {
            (Self::EpsilonDelta { epsilon: a, delta: b }, Self::EpsilonDelta { epsilon: c, delta: d }) => {
                same(a, c) && same(b, d)
            }
            (Self::Gaussian { squares: a }, Self::Gaussian { squares: b }) => same(a, b),
            (Self::Zcdp { rho: a }, Self::Zcdp { rho: b }) => same(a, b),
            _ => false,
        }
    }

    fn measure(&self) -> &'static str {
        match self {
            Self::EpsilonDelta { .. } => "ε and δ",
            Self::Gaussian { .. } => "μ",
            Self::Zcdp { .. } => "ρ",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(epsilon: f64, delta: f64) -> RunCost {
        RunCost::EpsilonDelta {
            epsilon: Epsilon::new(epsilon).unwrap(),
            delta: Delta::new(delta).ok(),
        }
    }

    fn budget() -> SharedBudget {
        SharedBudget::epsilon_delta(Epsilon::new(2.0).unwrap(), Delta::new(1e-5).ok()).unwrap()
    }

    #[test]
    fn ten_runs_of_a_tenth_fit() {
        let mut budget = budget();
        for run in 0..10 {
            budget.reserve(&format!("run {run}"), cost(0.2, 1e-6)).unwrap();
        }
        let before = budget.clone();
        let error = budget.reserve("one more", cost(1e-3, 1e-9)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "budget exhausted: ε spent 2, asked 0.001, limit 2"
        );
        assert_eq!(budget, before);
        budget.void("run 3").unwrap();
        budget.reserve("one more", cost(0.2, 1e-6)).unwrap();
        assert!(budget.runs().all(|(run, _)| run != "run 3") && budget.runs().count() == 10);
    }

    #[test]
    fn delta_is_limited_too_and_a_refused_run_has_no_share() {
        let mut budget = budget();
        budget.reserve("a", cost(0.1, 9e-6)).unwrap();
        let refused = budget.reserve("b", cost(0.1, 2e-6));
        assert!(matches!(refused, Err(FilterError::Exhausted(refusal)) if refusal.quantity == "δ"));
        assert!((budget.spent() - 0.1).abs() < 1e-15 && budget.runs().count() == 1);
        assert!(matches!(
            budget.reserve("a", cost(0.1, 1e-9)),
            Err(FilterError::Run { .. })
        ));
        assert!(matches!(budget.void("b"), Err(FilterError::Run { .. })));
        assert!(budget.reserve("", cost(0.1, 1e-9)).is_err());
        assert!(
            budget
                .reserve(
                    "zcdp",
                    RunCost::Zcdp {
                        rho: Rho::new(0.1).unwrap()
                    }
                )
                .is_err()
        );
        assert!(
            budget
                .reserve(
                    "all",
                    RunCost::EpsilonDelta {
                        epsilon: Epsilon::INFINITE,
                        delta: None
                    }
                )
                .is_err()
        );
    }

    #[test]
    fn gaussian_runs_add_up_their_squares() {
        let mut budget = SharedBudget::gaussian(1.0).unwrap();
        for run in 0..4 {
            budget
                .reserve(&run.to_string(), RunCost::Gaussian { mu: 0.5 })
                .unwrap();
        }
        assert!(budget.reserve("five", RunCost::Gaussian { mu: 0.1 }).is_err());
        assert!(budget.reserve("nan", RunCost::Gaussian { mu: f64::NAN }).is_err());
        assert!((budget.spent() - 1.0).abs() < 1e-15 && budget.spent_delta().is_none());
    }

    proptest! {
        #[test]
        fn state_survives_and_the_limit_holds(
            runs in prop::collection::vec(("[a-z]{1,3}", 0.0..0.5_f64, 0.0..3e-6_f64, any::<bool>()), 0..30),
            measure in 0..3,
        ) {
            let rho = |value: f64| Rho::new(value).unwrap();
            let mut budget = match measure {
                0 => budget(),
                1 => SharedBudget::zcdp(rho(2.0)).unwrap(),
                _ => SharedBudget::gaussian(2.0_f64.sqrt()).unwrap(),
            };
            for (run, size, delta, void) in runs {
                let cost = match measure {
                    0 => cost(size, delta),
                    1 => RunCost::Zcdp { rho: rho(size) },
                    _ => RunCost::Gaussian { mu: size },
                };
                let before = budget.clone();
                if budget.reserve(&run, cost).is_err() {
                    prop_assert_eq!(&budget, &before);
                    if void {
                        let _ = budget.void(&run);
                    }
                }
                let restored = SharedBudget::decode(&budget.encode()).unwrap();
                prop_assert_eq!(&restored, &budget);
            }
            prop_assert!(budget.spent() <= 2.0 * (1.0 + 1e-12));
            prop_assert!(budget.spent_delta().unwrap_or(0.0) <= 1e-5 * (1.0 + 2e-12));
        }

        #[test]
        fn any_bytes_are_a_budget_or_an_error(
            mut bytes in prop::collection::vec(any::<u8>(), 0..120), measure in 1_u8..4,
        ) {
            if bytes.len() > 6 {
                bytes[..5].copy_from_slice(b"UFL1\x05");
                bytes[5] = measure;
            }
            if let Ok(budget) = SharedBudget::decode(&bytes) {
                prop_assert_eq!(budget.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_state_whose_sum_was_changed_is_refused() {
        let mut budget = budget();
        budget.reserve("a", cost(0.5, 1e-6)).unwrap();
        let mut bytes = budget.encode();
        bytes[6..14].copy_from_slice(&0.25_f64.to_bits().to_le_bytes());
        assert!(matches!(
            SharedBudget::decode(&bytes),
            Err(FilterError::State { .. })
        ));
    }
}
