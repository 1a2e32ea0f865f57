//! `[secure_aggregation]`: whether the server sees sums only, and against how many it holds.

use toml::{Table, Value};

use super::section::{Section, SettingError};
use super::{PrivacySettings, TrustSettings, UnitSettings, whole};
use crate::{ClipSettings, MechanismSettings, NoiseSampler};

/// `[secure_aggregation]`, where it is enabled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SecureAggregationSettings {
    /// `enabled = "ideal"`: the same sums without the cryptography, in simulation only.
    pub ideal: bool,
    /// The fewest clients in a sum; absent means what the cohort can be expected to reach.
    pub survivors_min: Option<u32>,
    /// The most clients in a round; absent means the cohort and four standard deviations of its size.
    pub clients_max: Option<u32>,
    /// Share of the most clients of a round that may collude with the server.
    pub colluding: f64,
    /// Share of a round's clients whose dropping out by chance it must bear.
    pub dropout_allowance: f64,
    /// Who exchanges keys with whom; absent means everybody with everybody up to 128 clients.
    pub graph: Option<GraphSettings>,
    /// Where clients add the noise, b: sums are modulo 2^b.
    pub modulus_bits: Option<u32>,
    /// How simulated clients vanish.
    pub dropouts: DropoutSettings,
}

/// `secure_aggregation.graph`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "these are the protocol's graphs")]
pub enum GraphSettings {
    /// Everybody with everybody.
    Complete,
    /// With some neighbours in a random graph.
    Regular,
}

/// `[secure_aggregation.dropouts]`: the chance that a simulated client vanishes before it takes a step, given that it has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DropoutSettings {
    /// Before it advertises its keys.
    pub advertising: f64,
    /// Before it shares its secrets.
    pub sharing: f64,
    /// Before it sends its input.
    pub sending: f64,
    /// Before it confirms the survivors.
    pub confirming: f64,
    /// Before it opens shares.
    pub opening: f64,
}

const KEYS: [&str; 8] = [
    "clients_max",
    "colluding",
    "dropout_allowance",
    "dropouts",
    "enabled",
    "graph",
    "modulus_bits",
    "survivors_min",
];

const STEPS: [&str; 5] = ["advertising", "confirming", "opening", "sending", "sharing"];

/// Share of colluding clients where the settings say nothing, and of dropouts.
const DEFAULT_SHARE: f64 = 0.1;

impl SecureAggregationSettings {
    pub(super) fn to_pairs(settings: Option<&Self>) -> Vec<(&'static str, Value)> {
        let Some(settings) = settings else {
            return vec![("enabled", false.into())];
        };
        let enabled = if settings.ideal {
            "ideal".into()
        } else {
            true.into()
        };
        let mut pairs: Vec<(&str, Value)> = vec![
            ("enabled", enabled),
            ("colluding", settings.colluding.into()),
            ("dropout_allowance", settings.dropout_allowance.into()),
        ];
        let counts = [
            ("clients_max", settings.clients_max),
            ("modulus_bits", settings.modulus_bits),
            ("survivors_min", settings.survivors_min),
        ];
        for (key, count) in counts {
            pairs.extend(count.map(|count| (key, whole(count.into()))));
        }
        pairs.extend(settings.graph.map(|graph| {
            let name = match graph {
                GraphSettings::Complete => "complete",
                GraphSettings::Regular => "regular",
            };
            ("graph", name.into())
        }));
        if settings.dropouts != DropoutSettings::default() {
            let DropoutSettings {
                advertising,
                sharing,
                sending,
                confirming,
                opening,
            } = settings.dropouts;
            let rates = [advertising, confirming, opening, sending, sharing];
            let table: Table = STEPS
                .iter()
                .zip(rates)
                .filter(|(_, rate)| *rate > 0.0)
                .map(|(step, rate)| ((*step).to_owned(), rate.into()))
                .collect();
            pairs.push(("dropouts", Value::Table(table)));
        }
        pairs
    }
}

/// Reads `[secure_aggregation]`; `None` where it is not enabled.
pub(super) fn secure_aggregation(
    root: &mut Section,
) -> Result<Option<SecureAggregationSettings>, SettingError> {
    let Some(mut section) = root.section("secure_aggregation", &KEYS)? else {
        return Ok(None);
    };
    let expected = "true, false or, in a simulation, \"ideal\"";
    // Of a simulation without the cryptography, true; nothing where there is no secure aggregation.
    let ideal = if section.is_text("enabled") {
        match section.text("enabled", expected)?.as_deref() {
            Some("ideal") => Some(true),
            other => {
                return section.refuse("enabled", expected, format!("\"{}\"", other.unwrap_or_default()));
            }
        }
    } else {
        let flag = section.flag("enabled").or_else(|error| match error {
            SettingError::Value { got, .. } => section.refuse("enabled", expected, got),
            other => Err(other),
        });
        flag?.unwrap_or(false).then_some(false)
    };
    let share = |section: &mut Section, key: &str| {
        let expected = "a number from 0 to below 0.5";
        let share = section.number(key, expected, |share| (0.0..0.5).contains(&share))?;
        Ok(share.unwrap_or(DEFAULT_SHARE))
    };
    let count = |section: &mut Section, key: &str| match section.count(key, 1)? {
        None => Ok(None),
        Some(count) => match u32::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => section.refuse(key, "a number of clients or bits", count),
        },
    };
    let settings = SecureAggregationSettings {
        ideal: ideal.unwrap_or_default(),
        survivors_min: count(&mut section, "survivors_min")?,
        clients_max: count(&mut section, "clients_max")?,
        colluding: share(&mut section, "colluding")?,
        dropout_allowance: share(&mut section, "dropout_allowance")?,
        graph: {
            let expected = "\"complete\" or \"regular\"";
            match section.text("graph", expected)?.as_deref() {
                None => None,
                Some("complete") => Some(GraphSettings::Complete),
                Some("regular") => Some(GraphSettings::Regular),
                Some(other) => return section.refuse("graph", expected, format!("\"{other}\"")),
            }
        },
        modulus_bits: count(&mut section, "modulus_bits")?,
        dropouts: dropouts(&mut section)?,
    };
    Ok(ideal.map(|_| settings))
}

fn dropouts(section: &mut Section) -> Result<DropoutSettings, SettingError> {
    let Some(mut section) = section.section("dropouts", &STEPS)? else {
        return Ok(DropoutSettings::default());
    };
    let mut rate = |step: &str| {
        let rate = section.number(step, "a number from 0 to 1", |rate| (0.0..=1.0).contains(&rate))?;
        Ok::<_, SettingError>(rate.unwrap_or_default())
    };
    Ok(DropoutSettings {
        advertising: rate("advertising")?,
        sharing: rate("sharing")?,
        sending: rate("sending")?,
        confirming: rate("confirming")?,
        opening: rate("opening")?,
    })
}

/// What may go together with `[privacy]`.
pub(super) fn check_aggregation(
    privacy: &PrivacySettings,
    secure: Option<&SecureAggregationSettings>,
) -> Result<(), SettingError> {
    let conflict =
        |first: &str, second: &str, reason: &str| Err(SettingError::conflict(first, second, reason));
    let is_distributed = privacy.trust == TrustSettings::Distributed;
    if is_distributed && secure.is_none() {
        return Err(SettingError::Value {
            key: "secure_aggregation.enabled".to_owned(),
            expected: "true, or in a simulation \"ideal\", with trust \"distributed\": each client adds a share of the noise only, so the \
                       server must see nothing but the sum"
                .to_owned(),
            got: "false".to_owned(),
        });
    }
    if is_distributed {
        check_distributed(privacy)?;
    } else if privacy.noise == NoiseSampler::Discrete {
        let reason = "the discrete Gaussian is what clients add with \"distributed\"; use \"rounded\"";
        return conflict("privacy.noise", "privacy.trust", reason);
    }
    if secure.is_some() && matches!(privacy.mechanism, MechanismSettings::DpFtrl { .. }) {
        let reason = "correlated noise is charged for all rounds under add-or-remove, and secure aggregation opens nothing below a number of \
                      clients, so one client could decide whether there is a release; use independent noise";
        return conflict("privacy.mechanism", "secure_aggregation.enabled", reason);
    }
    if !is_distributed && secure.is_some_and(|secure| secure.modulus_bits.is_some()) {
        let reason = "only where clients add the noise is the grid chosen to fit a modulus; remove it";
        return conflict("secure_aggregation.modulus_bits", "privacy.trust", reason);
    }
    Ok(())
}

/// What the discrete mechanism of the clients does not do.
fn check_distributed(privacy: &PrivacySettings) -> Result<(), SettingError> {
    let conflict = |first: &str, reason: &str| Err(SettingError::conflict(first, "privacy.trust", reason));
    if privacy.unit == UnitSettings::Example {
        let reason = "with unit \"example\" each client protects its examples by its own noise: use trust \"local\", and secure aggregation \
                      hides what it sends";
        return conflict("privacy.unit", reason);
    }
    if matches!(privacy.clip_norm, ClipSettings::Adaptive { .. }) {
        let reason = "the count that an adaptive clip norm follows would need noise shares and a part of the modulus of its own; with \
                      \"distributed\" give a number";
        return conflict("privacy.clip_norm", reason);
    }
    if privacy.noise != NoiseSampler::Discrete {
        let reason =
            "with \"distributed\" clients add discrete Gaussian noise, in simulations too; leave it away";
        return conflict("privacy.noise", reason);
    }
    if privacy.accountant != umbel_accounting::AccountantKind::Rdp {
        let reason = "a sum of discrete Gaussians in many dimensions is accounted by \"rdp\", as no one-dimensional privacy loss is its; \
                      leave the accountant away";
        return conflict("privacy.accountant", reason);
    }
    if privacy.mechanism != MechanismSettings::Gaussian {
        let reason =
            "correlated noise is added by a trusted server; with \"distributed\" clients add their own";
        return conflict("privacy.mechanism", reason);
    }
    Ok(())
}
