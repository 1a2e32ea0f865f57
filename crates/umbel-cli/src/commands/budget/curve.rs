//! `umbel budget curve`.

use anyhow::Context as _;
use serde::Serialize;
use umbel_accounting::{EpsilonBounds, accountant};

use super::number::{self, finite, lower, percent_upper, text, upper, whole};
use super::plan::Terms;
use super::plot::plot;
use super::profile::{self, Growth, Profile};
use super::scale::Scale;
use super::svg::{self, Panel};
use super::{answer, statement};
use crate::args::budget::{CurveArgs, Spacing};
use crate::output::{self, Bar};

/// Most numbers of steps.
const GROWTH_POINTS: u32 = 20;

/// Everything that is shown.
#[derive(Debug, Serialize)]
struct Curve {
    #[serde(flatten)]
    answer: answer::Answer,
    by_steps: Vec<Growth>,
    by_epsilon: Vec<EpsilonPoint>,
    trade_off: Vec<TradeOffPoint>,
    attacker: Attacker,
}

/// δ(ε), an upper bound.
#[derive(Debug, Serialize)]
struct EpsilonPoint {
    epsilon: f64,
    delta: f64,
}

/// Whoever wants fewer false positives has at least this rate of false negatives.
#[derive(Debug, Serialize)]
struct TradeOffPoint {
    false_positive_rate: f64,
    false_negative_rate: f64,
}

/// What is left to guess whether a unit took part; upper bounds.
#[derive(Debug, Serialize)]
pub(super) struct Attacker {
    /// The most by which the rate of true positives exceeds that of false positives.
    pub(super) advantage: f64,
    /// How probable it was beforehand that the unit took part.
    pub(super) base_rate: f64,
    /// Share of right guesses after seeing every release.
    pub(super) best_success: f64,
    /// Share of right guesses without seeing anything.
    pub(super) blind_success: f64,
}

pub(super) fn run(args: &CurveArgs) -> anyhow::Result<()> {
    let terms = Terms::new(&args.terms)?;
    let (noise, steps) = (args.noise.noise_multiplier, args.steps.steps);
    let counts = profile::counts(steps, GROWTH_POINTS, args.spacing);
    let bar = Bar::new(
        counts.len() as u64 + u64::from(profile::PROFILE_POINTS),
        0,
        "points",
    );
    let tick = || bar.advance();

    let mut accountant = accountant(terms.accountant, terms.relation);
    let event = terms.step(noise);
    let by_steps = profile::growth(accountant.as_mut(), &event, terms.delta, &counts, &tick)?;
    let bounds = accountant.epsilon(terms.delta)?;
    let profile = Profile::new(accountant.as_ref(), finite(bounds.upper.value()), &tick)?;
    let base_rate = args.base_rate.base_rate;
    let curve = Curve {
        answer: answer::Answer::new(&terms, noise, steps, bounds),
        by_steps,
        by_epsilon: profile
            .points()
            .iter()
            .map(|&(epsilon, delta)| EpsilonPoint { epsilon, delta })
            .collect(),
        trade_off: false_positive_rates()
            .map(|rate| TradeOffPoint {
                false_positive_rate: rate,
                false_negative_rate: profile.false_negatives(rate),
            })
            .collect(),
        attacker: Attacker {
            advantage: profile.advantage(),
            base_rate,
            best_success: profile::best_success(accountant.as_ref(), base_rate)?,
            blind_success: profile::blind_success(base_rate),
        },
    };
    bar.finish();

    if let Some(path) = &args.svg {
        let picture = curve.draw(&terms, &answer::plan(&terms, noise, steps), args.spacing);
        umbel_experiment::write_whole(path, picture.as_bytes())
            .with_context(|| "cannot write the picture")?;
        output::remark(&format!("wrote {}", path.display()));
    }
    let shown = if args.json {
        serde_json::to_string_pretty(&curve)?
    } else {
        curve.describe(&terms, &answer::plan(&terms, noise, steps), bounds, args.spacing)
    };
    output::result(&shown)
}

/// Where the trade-off is shown: some that are rare, then every hundredth.
fn false_positive_rates() -> impl Iterator<Item = f64> {
    let rare = [0.0, 1e-6, 1e-5, 1e-4, 1e-3];
    rare.into_iter()
        .chain((1..=100).map(|hundredths| f64::from(hundredths) / 100.0))
}

impl Attacker {
    /// In words, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        vec![
            format!(
                "advantage: the rate of true positives exceeds that of false positives by at most {}",
                percent_upper(self.advantage)
            ),
            format!(
                "best success: right in at most {} of guesses, where {} is right without any release (base rate {})",
                percent_upper(self.best_success),
                percent_upper(self.blind_success),
                text(self.base_rate)
            ),
        ]
    }
}

impl Curve {
    fn describe(&self, terms: &Terms, plan: &str, bounds: EpsilonBounds, spacing: Spacing) -> String {
        let delta = terms.delta.value();
        let mut lines = vec![
            format!("ε = {}", number::epsilon(bounds, delta)),
            String::new(),
            format!("  plan         {plan}"),
        ];
        lines.extend(statement::lines(terms));

        lines.push(format!("\nε by number of steps, at δ = {}\n", text(delta)));
        lines.push(format!(
            "  {:>16}  {:>12}  {:>12}",
            "steps", "ε at most", "and at least"
        ));
        for point in &self.by_steps {
            lines.push(format!(
                "  {:>16}  {:>12}  {:>12}",
                point.steps,
                upper(point.epsilon.unwrap_or(f64::INFINITY)),
                point.epsilon_lower.map_or_else(|| "unknown".to_owned(), lower)
            ));
        }
        let points = self.growth_points();
        if points.len() > 1 {
            let highest = points.last().map_or(1.0, |point| point.1);
            let axis = self.step_scale(spacing);
            lines.push(plot(
                &format!("\nε by number of steps, at δ = {}", text(delta)),
                &points,
                axis,
                Scale::from_zero(highest),
            ));
        }

        lines.push("\nδ by ε, after all steps\n".to_owned());
        lines.push(format!("  {:>12}  {:>12}", "ε", "δ at most"));
        for point in self.by_epsilon.iter().step_by(4) {
            lines.push(format!(
                "  {:>12}  {:>12}",
                upper(point.epsilon),
                upper(point.delta)
            ));
        }

        lines.push(
            "\ntrade-off: what an attacker who guesses whether one unit took part cannot beat\n".to_owned(),
        );
        lines.push(format!(
            "  {:>15}  {:>24}",
            "false positives", "false negatives at least"
        ));
        for point in self
            .trade_off
            .iter()
            .filter(|point| shown(point.false_positive_rate))
        {
            let rates = (text(point.false_positive_rate), lower(point.false_negative_rate));
            lines.push(format!("  {:>15}  {:>24}", rates.0, rates.1));
        }
        lines.push("\nthe best attacker, who knows everything else and sees every release\n".to_owned());
        lines.extend(self.attacker.lines().into_iter().map(|line| format!("  {line}")));
        lines.join("\n")
    }

    fn draw(&self, terms: &Terms, plan: &str, spacing: Spacing) -> String {
        let growth = self.growth_points();
        let deltas: Vec<(f64, f64)> = self
            .by_epsilon
            .iter()
            .filter(|point| point.delta > 0.0)
            .map(|point| (point.epsilon, point.delta))
            .collect();
        let trade_off = self
            .trade_off
            .iter()
            .map(|point| (point.false_positive_rate, point.false_negative_rate))
            .collect();
        let share = Scale::between(0.0, 1.0);
        let lowest = deltas.last().map_or(1e-12, |point| point.1);
        let panels = [
            Panel {
                title: "ε by number of steps",
                x_label: "steps",
                y_label: "ε",
                x: self.step_scale(spacing),
                y: Scale::from_zero(growth.last().map_or(1.0, |point| point.1)),
                points: growth,
                compared: Vec::new(),
            },
            Panel {
                title: "δ by ε, after all steps",
                x_label: "ε",
                y_label: "δ",
                x: Scale::from_zero(deltas.last().map_or(1.0, |point| point.0)),
                y: Scale::logarithmic(lowest, 1.0),
                points: deltas,
                compared: Vec::new(),
            },
            Panel {
                title: "Trade-off; dashed: perfect privacy",
                x_label: "rate of false positives",
                y_label: "least rate of false negatives",
                x: share,
                y: share,
                points: trade_off,
                compared: vec![(0.0, 1.0), (1.0, 0.0)],
            },
        ];
        let epsilon = self
            .answer
            .epsilon
            .map_or_else(|| "infinite: NOT PRIVATE".to_owned(), upper);
        let heading = format!("ε = {epsilon} at δ = {}: {plan}", text(terms.delta.value()));
        svg::draw(&heading, &panels, &statement::plain_lines(terms))
    }

    /// The finite part of ε by steps.
    fn growth_points(&self) -> Vec<(f64, f64)> {
        self.by_steps
            .iter()
            .filter_map(|point| Some((whole(point.steps), point.epsilon?)))
            .collect()
    }

    fn step_scale(&self, spacing: Spacing) -> Scale {
        let last = self.by_steps.last().map_or(1.0, |point| whole(point.steps));
        match spacing {
            Spacing::Linear => Scale::from_zero(last),
            Spacing::Log => Scale::logarithmic(1.0, last),
        }
    }
}

/// Which of the rates of false positives a person is shown.
fn shown(rate: f64) -> bool {
    const SHOWN: [f64; 14] = [
        1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
    ];
    SHOWN.iter().any(|shown| (shown - rate).abs() < 1e-9 * shown)
}
