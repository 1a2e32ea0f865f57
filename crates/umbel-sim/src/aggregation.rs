//! From `[secure_aggregation]` to whose sums are opened, and to the terms that simulated clients check.

use sha2::{Digest as _, Sha256};
use umbel_experiment::{Experiment, GraphSettings, SecureAggregationSettings};
use umbel_mechanisms::Mechanism;
use umbel_protocol::{PlanError, PlanSettings, RoundId, SecureAggregation, parameters_sha256};
use umbel_secagg::{RoundConfig, Topology};

use crate::SimulateError;

/// Up to so many clients all exchange keys with all, where the settings say nothing.
const COMPLETE_UP_TO: u32 = 128;

/// Where clients add the noise and the settings say nothing, sums are modulo two to this power.
const MODULUS_BITS: u32 = 20;

/// Whose sums are opened; `clients` and `is_distributed` say who there is and whether they add the noise.
pub(crate) fn secure_aggregation(
    experiment: &Experiment,
    clients: u64,
    is_distributed: bool,
) -> Result<Option<SecureAggregation>, SimulateError> {
    let Some(settings) = &experiment.secure_aggregation else {
        return Ok(None);
    };
    let sizes = Sizes::new(settings, experiment.federation.cohort, clients);
    let complete = match settings.graph {
        Some(graph) => graph == GraphSettings::Complete,
        None => sizes.most <= COMPLETE_UP_TO,
    };
    let modulus_bits = if is_distributed {
        settings.modulus_bits.unwrap_or(MODULUS_BITS)
    } else {
        SecureAggregation::bits_for_quantized(sizes.most)
    };
    let secure = SecureAggregation {
        ideal: settings.ideal,
        clients_max: sizes.most,
        survivors_min: sizes.fewest,
        colluding: sizes.colluding,
        dropout_permille: permille(settings.dropout_allowance),
        complete,
        modulus_bits,
    };
    secure.check(experiment.federation.cohort, clients)?;
    // Rosters between the two extremes only have more room.
    for n in [secure.survivors_min, secure.clients_max] {
        terms_of(&secure)
            .parameters(n)
            .map_err(|error| PlanError::Setting {
                key: "secure_aggregation",
                expected: format!("terms that are safe for a round of {n} clients"),
                got: error.to_string(),
            })?;
    }
    Ok(Some(secure))
}

/// Numbers of clients.
struct Sizes {
    most: u32,
    fewest: u32,
    colluding: u32,
}

impl Sizes {
    /// What the settings say, and else: as many survivors as a small cohort with half again as many dropouts as allowed for still has,
    /// and as large a cohort as that bears.
    fn new(settings: &SecureAggregationSettings, cohort: f64, clients: u64) -> Self {
        let clients = clients as f64;
        let spread = (cohort * (1.0 - cohort / clients).max(0.0)).sqrt();
        let reached = (1.0 - 1.5 * settings.dropout_allowance) * (cohort - 2.0 * spread).max(0.0);
        let fewest = settings.survivors_min.map_or(reached, f64::from);
        let borne = (2.0 * (fewest - 1.0) / (1.0 + settings.colluding)).floor();
        let most = borne
            .min((cohort + 4.0 * spread).ceil())
            .max(cohort.ceil())
            .min(clients);
        let most = settings.clients_max.unwrap_or_else(|| to_count(most));
        let colluding = to_count((settings.colluding * f64::from(most)).ceil());
        let least = most.saturating_add(colluding) / 2 + 1;
        Self {
            most,
            fewest: settings
                .survivors_min
                .unwrap_or_else(|| least.max(to_count(reached.floor()))),
            colluding,
        }
    }
}

/// The terms of a round, as the server of a simulation offers them.
pub(crate) fn round_config(
    settings: &PlanSettings,
    secure: &SecureAggregation,
    round: RoundId,
    attempt: u64,
    model: &[f32],
    dimension: usize,
) -> RoundConfig {
    let (mechanism, share, target) = match &settings.mechanism {
        Mechanism::Distributed(mechanism) => (
            mechanism.hash(),
            mechanism.share_variance(),
            mechanism.target_variance(),
        ),
        // The server adds noise, or each client to its own release: nothing of it is needed from the sum.
        _ => (
            Sha256::digest(settings.description.experiment_sha256.as_bytes()).into(),
            0.0,
            0.0,
        ),
    };
    RoundConfig {
        federation: Sha256::digest(settings.description.name.as_bytes()).into(),
        round: round.0,
        attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
        model: parameters_sha256(model),
        mechanism,
        dimension: u32::try_from(dimension).unwrap_or(u32::MAX),
        noise_share_variance: share,
        noise_target_variance: target,
        ..terms_of(secure)
    }
}

/// What does not change from round to round.
fn terms_of(secure: &SecureAggregation) -> RoundConfig {
    RoundConfig {
        federation: [0; 32],
        round: 0,
        attempt: 0,
        model: [0; 32],
        mechanism: [0; 32],
        dimension: 1,
        modulus_bits: secure.modulus_bits,
        clients_min: secure.survivors_min,
        clients_max: secure.clients_max,
        survivors_min: secure.survivors_min,
        colluding: secure.colluding,
        colluding_permille: 0,
        dropout_permille: secure.dropout_permille,
        topology: if secure.complete {
            Topology::Complete
        } else {
            Topology::Regular
        },
        noise_share_variance: 0.0,
        noise_target_variance: 0.0,
        // The clock of a simulation stands still in a round.
        duration_ms: 60_000,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is no count saturates, and the plan refuses it"
)]
fn to_count(number: f64) -> u32 {
    number as u32
}

fn permille(share: f64) -> u32 {
    to_count((share * 1_000.0).round())
}

#[cfg(test)]
mod tests {
    use umbel_experiment::DropoutSettings;

    use super::*;

    fn sizes(cohort: f64, clients: u64, change: impl FnOnce(&mut SecureAggregationSettings)) -> [u32; 3] {
        let mut settings = SecureAggregationSettings {
            ideal: false,
            survivors_min: None,
            clients_max: None,
            colluding: 0.1,
            dropout_allowance: 0.1,
            graph: None,
            modulus_bits: None,
            dropouts: DropoutSettings::default(),
        };
        change(&mut settings);
        let Sizes {
            most,
            fewest,
            colluding,
        } = Sizes::new(&settings, cohort, clients);
        [most, fewest, colluding]
    }

    #[test]
    fn unset_numbers_are_safe_and_within_reach() {
        // Everybody takes part: only dropouts are to be borne.
        assert_eq!(sizes(100.0, 100, |_| ()), [100, 85, 10]);
        // Ten or so more or less by chance.
        assert_eq!(sizes(100.0, 1_000, |_| ()), [123, 69, 13]);
        assert_eq!(sizes(10.0, 100, |_| ()), [10, 6, 1]);
        for (cohort, clients) in [
            (5.0, 20),
            (10.0, 40),
            (40.0, 60),
            (100.0, 10_000),
            (1_000.0, 5_000),
        ] {
            let [most, fewest, colluding] = sizes(cohort, clients, |_| ());
            assert!(f64::from(most) >= cohort && 2 * fewest > most + colluding && fewest <= most);
            assert!(
                f64::from(fewest) < cohort,
                "{cohort} of {clients}: {fewest} to {most}"
            );
        }
    }

    #[test]
    fn what_is_set_is_kept() {
        assert_eq!(
            sizes(100.0, 1_000, |settings| settings.survivors_min = Some(80))[1],
            80
        );
        assert_eq!(
            sizes(100.0, 1_000, |settings| settings.clients_max = Some(110))[0],
            110
        );
        let [most, _, colluding] = sizes(100.0, 1_000, |settings| settings.colluding = 0.3);
        assert_eq!(colluding, to_count((f64::from(most) * 0.3).ceil()));
    }
}
