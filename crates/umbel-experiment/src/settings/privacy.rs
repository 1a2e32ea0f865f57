//! `[privacy]`: what is promised, and by which mechanism.

use std::path::Path;

use toml::{Table, Value};
use umbel_accounting::{AccountantKind, ClipNorm, Delta, Epsilon, NoiseMultiplier, ParamError};

use super::budget::{SharedBudgetSettings, shared_budget};
use super::layers::{CLIP_NORM, MECHANISM};
use super::section::{Section, SettingError};
use super::{to_size, whole};

/// `[privacy]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PrivacySettings {
    /// What one neighbour differs by.
    pub unit: UnitSettings,
    /// Who adds the noise.
    pub trust: TrustSettings,
    /// Bound on the norm of a client's whole update.
    pub clip_norm: ClipSettings,
    /// How much noise.
    pub noise_level: NoiseLevel,
    /// The δ of every ε.
    pub delta: Delta,
    /// Which sampler draws the noise.
    pub noise: NoiseSampler,
    /// Whose ε is reported.
    pub accountant: AccountantKind,
    /// How the noise of different rounds hangs together.
    pub mechanism: MechanismSettings,
    /// The budget that this run shares with others on the same population.
    pub budget: Option<SharedBudgetSettings>,
}

/// `privacy.unit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever makes noise must handle every unit"
)]
pub enum UnitSettings {
    /// All data of one client.
    Client,
    /// One example of one client.
    Example,
}

/// `privacy.trust`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustSettings {
    /// The server adds noise.
    Central,
    /// Clients add noise together, inside secure aggregation.
    Distributed,
    /// Each client adds its own.
    Local,
}

/// `privacy.clip_norm`: a number, or a table of kind `adaptive`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ClipSettings {
    /// It follows a quantile of the updates' norms (Andrew et al. 2021).
    Adaptive {
        /// In the first round.
        initial: ClipNorm,
        /// It never goes below.
        smallest: ClipNorm,
        /// It never goes above.
        largest: ClipNorm,
        /// Share of updates that shall not be clipped, between 0 and 1.
        quantile: f64,
        /// How fast it moves.
        learning_rate: f64,
        /// Standard deviation of the noise on the number of updates that are not clipped; absent means a twentieth of the cohort,
        /// or the noise multiplier if that is more.
        count_std_dev: Option<f64>,
    },
    /// The same in every round.
    Fixed(ClipNorm),
    /// Each layer by itself, to equal shares of this norm, so that all together are no longer than it (McMahan et al. 2018).
    PerLayer(ClipNorm),
}

/// `[privacy.mechanism]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MechanismSettings {
    /// Independent noise in each round, cohorts drawn in secret.
    Gaussian,
    /// Correlated noise, clients taking turns: DP-FTRL.
    DpFtrl {
        /// The strategy matrix.
        strategy: FtrlStrategy,
        /// Least number of rounds between two participations of a client; absent means as many as the cohort allows.
        separation: Option<u64>,
        /// Most participations of a client; absent means each turn that the separation leaves.
        participations: Option<u64>,
        /// Whether the cost counts on secret coins within groups of clients.
        amplified: bool,
    },
}

/// The strategy matrix of DP-FTRL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever makes the mechanism must know every strategy"
)]
pub enum FtrlStrategy {
    /// A banded Toeplitz matrix, optimised.
    Banded {
        /// Number of bands; absent means as many as the separation, up to 32.
        bands: Option<usize>,
    },
    /// Buffered linear Toeplitz, optimised.
    Blt {
        /// Number of buffers.
        buffers: usize,
    },
    /// One binary tree over all rounds.
    Tree,
}

/// How much noise is added.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever makes noise must handle every way to ask for it"
)]
pub enum NoiseLevel {
    /// None at all: `privacy.dangerous_no_noise = true`.
    DangerousNone,
    /// As little as keeps the whole run within this ε.
    Epsilon(Epsilon),
    /// This much; the run stops before it would spend more than `max_epsilon`.
    NoiseMultiplier {
        /// σ / C.
        noise_multiplier: NoiseMultiplier,
        /// The limit, if there is one.
        max_epsilon: Option<Epsilon>,
    },
}

/// Which sampler draws the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever makes noise must handle every sampler"
)]
pub enum NoiseSampler {
    /// Ordinary floating-point normal numbers: fast, for simulation only.
    Continuous,
    /// The discrete Gaussian, of which each client adds a share: with trust `distributed`.
    Discrete,
    /// The rounded Gaussian on integers.
    Rounded,
}

impl NoiseSampler {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continuous => "continuous",
            Self::Discrete => "discrete",
            Self::Rounded => "rounded",
        }
    }
}

impl PrivacySettings {
    pub(super) fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let mut pairs: Vec<(&str, Value)> = vec![
            (
                "unit",
                match self.unit {
                    UnitSettings::Client => "client",
                    UnitSettings::Example => "example",
                }
                .into(),
            ),
            (
                "trust",
                match self.trust {
                    TrustSettings::Central => "central",
                    TrustSettings::Distributed => "distributed",
                    TrustSettings::Local => "local",
                }
                .into(),
            ),
            ("clip_norm", self.clip_norm.to_value()),
        ];
        match self.noise_level {
            NoiseLevel::DangerousNone => pairs.push(("dangerous_no_noise", true.into())),
            NoiseLevel::Epsilon(epsilon) => pairs.push(("epsilon", epsilon.value().into())),
            NoiseLevel::NoiseMultiplier {
                noise_multiplier,
                max_epsilon,
            } => {
                pairs.push(("noise_multiplier", noise_multiplier.value().into()));
                pairs.extend(max_epsilon.map(|limit| ("max_epsilon", limit.value().into())));
            }
        }
        pairs.extend([
            ("delta", self.delta.value().into()),
            ("noise", self.noise.as_str().into()),
            ("accountant", self.accountant.as_str().into()),
            ("mechanism", self.mechanism.to_value()),
        ]);
        pairs.extend(self.budget.iter().map(|budget| ("budget", budget.to_value())));
        pairs
    }
}

impl ClipSettings {
    /// Of the first round.
    pub fn initial(self) -> ClipNorm {
        match self {
            Self::Adaptive { initial, .. } | Self::Fixed(initial) | Self::PerLayer(initial) => initial,
        }
    }

    fn to_value(self) -> Value {
        match self {
            Self::Fixed(clip_norm) => clip_norm.value().into(),
            Self::PerLayer(norm) => {
                let pairs = [
                    ("kind".to_owned(), "per-layer".into()),
                    ("norm".to_owned(), norm.value().into()),
                ];
                Value::Table(pairs.into_iter().collect())
            }
            Self::Adaptive {
                initial,
                smallest,
                largest,
                quantile,
                learning_rate,
                count_std_dev,
            } => {
                let mut pairs = vec![
                    ("kind", "adaptive".into()),
                    ("initial", initial.value().into()),
                    ("smallest", smallest.value().into()),
                    ("largest", largest.value().into()),
                    ("quantile", quantile.into()),
                    ("learning_rate", learning_rate.into()),
                ];
                pairs.extend(count_std_dev.map(|std_dev| ("count_std_dev", std_dev.into())));
                Value::Table(
                    pairs
                        .into_iter()
                        .map(|(key, value): (&str, Value)| (key.to_owned(), value))
                        .collect(),
                )
            }
        }
    }
}

impl MechanismSettings {
    fn to_value(self) -> Value {
        let mut table = Table::new();
        let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
        match self {
            Self::Gaussian => put("kind", "gaussian".into()),
            Self::DpFtrl {
                strategy,
                separation,
                participations,
                amplified,
            } => {
                put("kind", "dp-ftrl".into());
                match strategy {
                    FtrlStrategy::Banded { bands } => {
                        put("strategy", "banded".into());
                        bands
                            .into_iter()
                            .for_each(|bands| put("bands", whole(bands as u64)));
                    }
                    FtrlStrategy::Blt { buffers } => {
                        put("strategy", "blt".into());
                        put("buffers", whole(buffers as u64));
                    }
                    FtrlStrategy::Tree => put("strategy", "tree".into()),
                }
                separation
                    .into_iter()
                    .for_each(|rounds| put("separation", whole(rounds)));
                participations
                    .into_iter()
                    .for_each(|most| put("participations", whole(most)));
                put("amplified", amplified.into());
            }
        }
        Value::Table(table)
    }
}

/// Reads `[privacy]`.
pub(super) fn privacy(root: &mut Section, directory: &Path) -> Result<PrivacySettings, SettingError> {
    let known = [
        "accountant",
        "budget",
        "clip_norm",
        "dangerous_no_noise",
        "delta",
        "epsilon",
        "max_epsilon",
        "mechanism",
        "noise",
        "noise_multiplier",
        "trust",
        "unit",
    ];
    let section = root.section("privacy", &known)?;
    let mut section = root.require("privacy", "a table: what is promised must be said", section)?;
    let expected = "\"client\" or \"example\"";
    let unit = section.text("unit", expected)?;
    let unit = match section.require("unit", expected, unit)?.as_str() {
        "client" => UnitSettings::Client,
        "example" => UnitSettings::Example,
        other => return section.refuse("unit", expected, format!("\"{other}\"")),
    };
    let expected = "\"central\", \"distributed\" or \"local\"";
    let trust = section.text("trust", expected)?;
    let trust = match section.require("trust", expected, trust)?.as_str() {
        "central" => TrustSettings::Central,
        "distributed" => TrustSettings::Distributed,
        "local" => TrustSettings::Local,
        other => return section.refuse("trust", expected, format!("\"{other}\"")),
    };
    if (unit, trust) == (UnitSettings::Example, TrustSettings::Central) {
        let expected = "\"local\" with unit \"example\": a server gets whole updates, in which no example's share is bounded, so \
                        each client adds the noise itself";
        return section.refuse("trust", expected, "\"central\"");
    }
    let checked = |section: &Section, key: &str, error: ParamError| -> SettingError {
        SettingError::Value {
            key: section.name(key),
            expected: error.expected.to_owned(),
            got: format!("{:?}", error.got),
        }
    };
    let clip_norm = if section.is_table("clip_norm") {
        clip_table(&mut section)?
    } else {
        let clip_norm = section.number("clip_norm", "a finite number above 0", |_| true)?;
        let expected = "a finite number above 0, or a table of kind \"adaptive\" or \"per-layer\"";
        let clip_norm = section.require("clip_norm", expected, clip_norm)?;
        ClipSettings::Fixed(ClipNorm::new(clip_norm).map_err(|error| checked(&section, "clip_norm", error))?)
    };
    let delta = section.number("delta", "a number above 0 and below 1", |_| true)?;
    let delta = section.require("delta", "a number above 0 and below 1 / clients", delta)?;
    let delta = Delta::new(delta).map_err(|error| checked(&section, "delta", error))?;
    let noise_level = noise_level(&mut section)?;
    let is_distributed = trust == TrustSettings::Distributed;
    let expected = "\"rounded\", \"continuous\" or, with trust \"distributed\", \"discrete\"";
    let noise = match section.text("noise", expected)?.as_deref() {
        None if is_distributed => NoiseSampler::Discrete,
        None | Some("rounded") => NoiseSampler::Rounded,
        Some("discrete") => NoiseSampler::Discrete,
        Some("continuous") => NoiseSampler::Continuous,
        Some(other) => return section.refuse("noise", expected, format!("\"{other}\"")),
    };
    let expected = "\"pld\" or \"rdp\"";
    let accountant = match section.text("accountant", expected)?.as_deref() {
        None if is_distributed => AccountantKind::Rdp,
        None | Some("pld") => AccountantKind::Pld,
        Some("rdp") => AccountantKind::Rdp,
        Some(other) => return section.refuse("accountant", expected, format!("\"{other}\"")),
    };
    let mechanism = mechanism(&mut section)?;
    if mechanism != MechanismSettings::Gaussian && noise_level == NoiseLevel::DangerousNone {
        return Err(SettingError::Conflict {
            first: "privacy.mechanism".to_owned(),
            second: "privacy.dangerous_no_noise".to_owned(),
            reason: "without noise there is none to correlate; leave the mechanism away".to_owned(),
        });
    }
    if unit == UnitSettings::Example && matches!(clip_norm, ClipSettings::PerLayer(_)) {
        return Err(SettingError::Conflict {
            first: "privacy.clip_norm".to_owned(),
            second: "privacy.unit".to_owned(),
            reason: "with unit \"example\" each gradient is clipped as one vector; give a number".to_owned(),
        });
    }
    if trust == TrustSettings::Local {
        let conflict =
            |first: &str, reason: &str| Err(SettingError::conflict(first, "privacy.trust", reason));
        if matches!(clip_norm, ClipSettings::Adaptive { .. }) {
            let reason = "an adaptive clip norm follows a count that a trusted server noises; with \"local\" give a number";
            return conflict("privacy.clip_norm", reason);
        }
        if mechanism != MechanismSettings::Gaussian {
            let reason =
                "correlated noise is added by a trusted server; with \"local\" each client adds its own";
            return conflict("privacy.mechanism", reason);
        }
    }
    if matches!(clip_norm, ClipSettings::Adaptive { .. }) {
        let conflict =
            |second: &str, reason: &str| Err(SettingError::conflict("privacy.clip_norm", second, reason));
        if noise_level == NoiseLevel::DangerousNone {
            let reason =
                "an adaptive clip norm follows a noisy count, and without noise there is none; give a number";
            return conflict("privacy.dangerous_no_noise", reason);
        }
        if mechanism != MechanismSettings::Gaussian {
            let reason = "the count that an adaptive clip norm follows is released with independent noise; give a number";
            return conflict("privacy.mechanism", reason);
        }
    }
    let budget = shared_budget(&mut section, directory)?;
    Ok(PrivacySettings {
        unit,
        trust,
        clip_norm,
        noise_level,
        delta,
        noise,
        accountant,
        mechanism,
        budget,
    })
}

/// `[privacy.clip_norm]` as a table.
fn clip_table(section: &mut Section) -> Result<ClipSettings, SettingError> {
    let kinds = section.kind_section("clip_norm", CLIP_NORM)?;
    let (kind, mut section) = section.require("clip_norm", "a number or a table", kinds)?;
    let positive = |value: f64| value > 0.0 && value.is_finite();
    let expected = "a finite number above 0";
    let norm = |section: &mut Section, key: &str, default: f64| {
        let value = section.number(key, expected, positive)?.unwrap_or(default);
        ClipNorm::new(value).or_else(|_| section.refuse(key, expected, format!("{value:?}")))
    };
    if kind == "per-layer" {
        if !section.has("norm") {
            return section.require(
                "norm",
                "the bound on all layers together, a finite number above 0",
                None,
            );
        }
        return Ok(ClipSettings::PerLayer(norm(&mut section, "norm", 1.0)?));
    }
    let initial = norm(&mut section, "initial", 0.1)?;
    let smallest = norm(&mut section, "smallest", initial.value() * 1e-6)?;
    let largest = norm(&mut section, "largest", initial.value() * 1e6)?;
    let share = |value: f64| value > 0.0 && value < 1.0;
    let rate = |value: f64| value > 0.0 && value <= 10.0;
    Ok(ClipSettings::Adaptive {
        initial,
        smallest,
        largest,
        quantile: section
            .number("quantile", "a number above 0 and below 1", share)?
            .unwrap_or(0.5),
        learning_rate: section
            .number("learning_rate", "a number above 0 and at most 10", rate)?
            .unwrap_or(0.2),
        count_std_dev: section.number("count_std_dev", expected, positive)?,
    })
}

/// `[privacy.mechanism]`; independent noise where it is absent.
fn mechanism(section: &mut Section) -> Result<MechanismSettings, SettingError> {
    let Some((kind, mut section)) = section.kind_section("mechanism", MECHANISM)? else {
        return Ok(MechanismSettings::Gaussian);
    };
    if kind != "dp-ftrl" {
        return Ok(MechanismSettings::Gaussian);
    }
    let expected = "\"blt\", \"banded\" or \"tree\"";
    let name = section.text("strategy", expected)?;
    let strategy = match name.as_deref() {
        None | Some("blt") => {
            let buffers = section.count("buffers", 1)?.unwrap_or(4);
            if buffers > 8 {
                return section.refuse("buffers", "at most 8", buffers);
            }
            FtrlStrategy::Blt {
                buffers: to_size(buffers)?,
            }
        }
        Some("banded") => FtrlStrategy::Banded {
            bands: section.count("bands", 1)?.map(to_size).transpose()?,
        },
        Some("tree") => FtrlStrategy::Tree,
        Some(other) => return section.refuse("strategy", expected, format!("\"{other}\"")),
    };
    for (key, owner) in [("buffers", "blt"), ("bands", "banded")] {
        if section.has(key) {
            return Err(SettingError::Conflict {
                first: section.name(key),
                second: section.name("strategy"),
                reason: format!("only \"{owner}\" has it"),
            });
        }
    }
    let amplified = section.flag("amplified")?.unwrap_or(false);
    if amplified && !matches!(strategy, FtrlStrategy::Banded { .. }) {
        let reason = "only a banded strategy keeps the turns of a group apart, which amplification rests on";
        return Err(SettingError::Conflict {
            first: section.name("amplified"),
            second: section.name("strategy"),
            reason: reason.to_owned(),
        });
    }
    Ok(MechanismSettings::DpFtrl {
        strategy,
        separation: section.count("separation", 1)?,
        participations: section.count("participations", 1)?,
        amplified,
    })
}

/// Exactly one of ε, a noise multiplier, and the dangerous way to have no noise at all.
fn noise_level(section: &mut Section) -> Result<NoiseLevel, SettingError> {
    let dangerous = section.flag("dangerous_no_noise")?.unwrap_or(false);
    let conflict = |section: &Section, first: &str, second: &str, reason: &str| {
        let (first, second) = (section.name(first), section.name(second));
        Err(SettingError::conflict(first, second, reason))
    };
    for other in ["epsilon", "noise_multiplier", "max_epsilon"] {
        if dangerous && section.has(other) {
            return conflict(
                section,
                "dangerous_no_noise",
                other,
                "a run without noise has no epsilon; remove one",
            );
        }
    }
    if section.has("epsilon") && section.has("noise_multiplier") {
        let reason = "the one follows from the other; remove one, or override it with --set";
        return conflict(section, "epsilon", "noise_multiplier", reason);
    }
    if section.has("epsilon") && section.has("max_epsilon") {
        let reason = "`epsilon` is the limit already; `max_epsilon` goes with `noise_multiplier`";
        return conflict(section, "epsilon", "max_epsilon", reason);
    }
    let positive = |value: f64| value > 0.0 && value.is_finite();
    let expected = "a finite number above 0";
    let epsilon_of = |section: &mut Section, key: &str| -> Result<Option<Epsilon>, SettingError> {
        Ok(section
            .number(key, expected, positive)?
            .and_then(|epsilon| Epsilon::new(epsilon).ok()))
    };
    if dangerous {
        return Ok(NoiseLevel::DangerousNone);
    }
    if let Some(epsilon) = epsilon_of(section, "epsilon")? {
        return Ok(NoiseLevel::Epsilon(epsilon));
    }
    let max_epsilon = epsilon_of(section, "max_epsilon")?;
    let expected = "a finite number above 0 (a run without noise is reached only through \
                    `privacy.dangerous_no_noise = true`)";
    let multiplier = section.number("noise_multiplier", expected, positive)?;
    match multiplier.and_then(|multiplier| NoiseMultiplier::new(multiplier).ok()) {
        Some(noise_multiplier) => Ok(NoiseLevel::NoiseMultiplier {
            noise_multiplier,
            max_epsilon,
        }),
        None => Err(SettingError::Missing {
            key: section.name("epsilon"),
            expected: "a target, or a `privacy.noise_multiplier`".to_owned(),
        }),
    }
}
