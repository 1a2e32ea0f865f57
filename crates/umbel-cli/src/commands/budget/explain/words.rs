//! An experiment's promise in plain words.

use umbel_accounting::{Epsilon, EpsilonBounds};
use umbel_mechanisms::CentralGaussian;

use super::Explanation;
use crate::commands::budget::number::{self, near, text, upper, whole};

/// Refuses what there are no words for: nothing is said of a promise by guessing.
pub(super) fn knows(unit: &str, trust: &str, sampling: &str) -> anyhow::Result<()> {
    match (unit, trust, sampling) {
        ("client", "central", "poisson" | "turns") => Ok(()),
        _ => anyhow::bail!(
            "there are no words yet for unit \"{unit}\", trust \"{trust}\" and {sampling} sampling"
        ),
    }
}

impl Explanation {
    pub(super) fn describe(&self) -> String {
        let mut lines = vec![format!("{}: what it promises\n", self.name)];
        lines.extend(self.promise());
        lines.push("\nhow much noise on what".to_owned());
        lines.extend(self.noise());
        if self.ftrl.is_some() {
            lines.push(
                "\nε does not grow with rounds: the whole run is charged with its first round".to_owned(),
            );
        } else {
            lines.push(format!("\nhow ε grows with rounds, at δ = {}", text(self.delta)));
            lines.push(format!("  {:>12}  {:>12}", "rounds", "ε at most"));
            lines.extend(self.by_rounds.iter().map(|point| {
                let epsilon = upper(point.epsilon.unwrap_or(f64::INFINITY));
                format!("  {:>12}  {epsilon:>12}", point.steps)
            }));
        }
        lines.push(
            "\nwhat that means: somebody who knows everything but whether one client took part, sees every released model, \
             and guesses"
                .to_owned(),
        );
        lines.extend(self.attacker.lines().into_iter().map(|line| format!("  {line}")));
        lines.push("\nnot covered".to_owned());
        lines.extend(self.not_covered.iter().map(|item| format!("  - {item}")));
        lines.join("\n")
    }

    fn promise(&self) -> Vec<String> {
        let Some(epsilon) = self.epsilon else {
            let why = match self.noise_multiplier {
                None => "NO NOISE IS ADDED, ε IS INFINITE".to_owned(),
                Some(_) => format!(
                    "SO LITTLE NOISE IS ADDED THAT NO ε UP TO {} HOLDS",
                    CentralGaussian::MAX_EPSILON
                ),
            };
            return vec![
                format!("  NOT PRIVATE: {why}. NOTHING IS PROMISED TO ANYBODY."),
                format!("  unit           {}: all data of one client", self.unit),
                format!("  relation       {}: one client is there or not", self.neighbors),
                format!(
                    "  trust          {}: everything would have to be trusted",
                    self.trust
                ),
                "  simulated      yes: nothing was run".to_owned(),
            ];
        };
        let bounds = EpsilonBounds {
            lower: self.epsilon_lower.and_then(|lower| Epsilon::new(lower).ok()),
            upper: Epsilon::new(epsilon).unwrap_or(Epsilon::INFINITE),
        };
        let mut lines = vec![
            format!("  promise        ε = {}", number::epsilon(bounds, self.delta)),
            "                 whoever sees every released model learns almost the same with or without any one client"
                .to_owned(),
            format!("  to whom        each of the {} clients, for all its data together (unit: {})", self.clients, self.unit),
            format!("  relation       {}: whether the client took part at all is protected", self.neighbors),
            "  against whom   everyone who sees the models, of all rounds too, but not the server".to_owned(),
            format!("  trusting whom  the server ({}): it sees every update{}", self.trust, self.asked_of_the_server()),
            format!("  sampling       {}: {}", self.sampling, self.who_takes_part()),
            format!("  accountant     {}", self.accountant),
            "  simulated      yes: noise is reproducible from the seed; this ε describes the mechanism, not a model file"
                .to_owned(),
        ];
        if let (Some(limit), Some(within)) = (self.epsilon_budget, self.rounds_within_budget) {
            let limit = text(limit);
            lines.push(if within >= self.rounds {
                format!("  budget         ε = {limit}: all rounds are within it")
            } else {
                format!(
                    "  budget         ε = {limit}: the run stops after {within} of its {} rounds",
                    self.rounds
                )
            });
        }
        lines
    }

    /// What the server must do for the promise to hold, besides what it sees.
    fn asked_of_the_server(&self) -> &'static str {
        match &self.ftrl {
            Some(ftrl) if !ftrl.amplified => {
                ", adds the noise, and lets nobody take part more often; who takes part is no secret"
            }
            _ => ", adds the noise, and keeps who takes part a secret",
        }
    }

    fn who_takes_part(&self) -> String {
        let (rate, cohort) = (upper(self.sampling_rate), text(self.cohort));
        match &self.ftrl {
            Some(ftrl) => format!(
                "of the {} rounds each client may take part in at most {}, at least {} apart; whose turn it is joins with \
                 probability {rate}, {cohort} expected",
                self.rounds, ftrl.participations, ftrl.separation
            ),
            None => format!(
                "each client joins each of the {} rounds with probability {rate}, {cohort} expected",
                self.rounds
            ),
        }
    }

    fn noise(&self) -> Vec<String> {
        let clip = text(self.clip_norm);
        let mut lines = vec![format!(
            "  each client's update, all layers as one vector, is shortened to a norm of at most {clip}"
        )];
        let Some(multiplier) = self.noise_multiplier else {
            lines.push("  NO NOISE is added to their sum".to_owned());
            return lines;
        };
        if let Some(ftrl) = &self.ftrl {
            lines.extend([
                format!(
                    "  for each of the {} parameters Gaussian numbers ({}) of standard deviation {} are drawn, one a round: noise \
                     multiplier {} × clip norm {clip}; one client moves what they cover by at most {} × clip norm over the whole run",
                    self.parameters,
                    self.noise,
                    near(multiplier * self.clip_norm),
                    near(multiplier),
                    upper(ftrl.sensitivity)
                ),
                format!(
                    "  a {} strategy correlates them, so that later rounds take back part of earlier noise: divided by the cohort \
                     of {}, {} on each parameter of the last round's mean update, and {} on that of the sum over all rounds",
                    ftrl.strategy,
                    text(self.cohort),
                    near(self.noise_std_dev),
                    near(self.total_noise_std_dev)
                ),
            ]);
            return lines;
        }
        lines.extend([
            format!(
                "  on each of the {} parameters of a round's sum comes Gaussian noise ({}) of standard deviation {}: noise \
                 multiplier {} × clip norm {clip}",
                self.parameters,
                self.noise,
                near(multiplier * self.clip_norm),
                near(multiplier)
            ),
            format!(
                "  divided by the cohort of {}, that is {} on each parameter of the mean update; all noise together has a \
                 norm of about {}, and one client moves the mean by at most {}",
                text(self.cohort),
                near(self.noise_std_dev),
                near(self.noise_std_dev * whole(self.parameters).sqrt()),
                upper(self.clip_norm / self.cohort)
            ),
        ]);
        lines
    }
}
