//! `[privacy]`: what is promised, and by which mechanism.

use toml::{Table, Value};
use umbel_accounting::{AccountantKind, ClipNorm, Delta, Epsilon, NoiseMultiplier, ParamError};

use super::layers::MECHANISM;
use super::section::{Section, SettingError};
use super::{to_size, whole};

/// `[privacy]`. In this version the unit is always `client`, the trust model `central`.
#[derive(Debug, Clone, PartialEq)]
pub struct PrivacySettings {
    /// Bound on the norm of a client's whole update.
    pub clip_norm: ClipNorm,
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
    /// The rounded Gaussian on integers.
    Rounded,
}

impl NoiseSampler {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continuous => "continuous",
            Self::Rounded => "rounded",
        }
    }
}

impl PrivacySettings {
    pub(super) fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let mut pairs: Vec<(&str, Value)> = vec![
            ("unit", "client".into()),
            ("trust", "central".into()),
            ("clip_norm", self.clip_norm.value().into()),
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
        pairs
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
pub(super) fn privacy(root: &mut Section) -> Result<PrivacySettings, SettingError> {
    let known = [
        "accountant",
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
    for (key, only) in [("unit", "client"), ("trust", "central")] {
        let expected = format!("\"{only}\", the one {key} of this version");
        let value = section.text(key, &expected)?;
        let value = section.require(key, &expected, value)?;
        if value != only {
            return section.refuse(key, expected, format!("\"{value}\""));
        }
    }
    let checked = |section: &Section, key: &str, error: ParamError| -> SettingError {
        SettingError::Value {
            key: section.name(key),
            expected: error.expected.to_owned(),
            got: format!("{:?}", error.got),
        }
    };
    let clip_norm = section.number("clip_norm", "a finite number above 0", |_| true)?;
    let clip_norm = section.require("clip_norm", "a finite number above 0", clip_norm)?;
    let clip_norm = ClipNorm::new(clip_norm).map_err(|error| checked(&section, "clip_norm", error))?;
    let delta = section.number("delta", "a number above 0 and below 1", |_| true)?;
    let delta = section.require("delta", "a number above 0 and below 1 / clients", delta)?;
    let delta = Delta::new(delta).map_err(|error| checked(&section, "delta", error))?;
    let noise_level = noise_level(&mut section)?;
    let expected = "\"rounded\" or \"continuous\"";
    let noise = match section.text("noise", expected)?.as_deref() {
        None | Some("rounded") => NoiseSampler::Rounded,
        Some("continuous") => NoiseSampler::Continuous,
        Some(other) => return section.refuse("noise", expected, format!("\"{other}\"")),
    };
    let expected = "\"pld\" or \"rdp\"";
    let accountant = match section.text("accountant", expected)?.as_deref() {
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
    Ok(PrivacySettings {
        clip_norm,
        noise_level,
        delta,
        noise,
        accountant,
        mechanism,
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
        Err(SettingError::Conflict {
            first,
            second,
            reason: reason.to_owned(),
        })
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
