//! `umbel budget curve`.

use anyhow::Context as _;
use serde::Serialize;
use umbel_accounting::tradeoff::TradeOff;
use umbel_accounting::{EpsilonBounds, accountant};

use super::attacker::Attacker;
use super::growth::{self, Growth};
use super::number::{self, lower, text, upper, whole};
use super::plan::Terms;
use super::plot::plot;
use super::scale::Scale;
use super::svg::{self, Panel};
use super::{answer, statement};
use crate::args::budget::{CurveArgs, Spacing};
use crate::output::{self, Bar};

/// Most numbers of steps.
const GROWTH_POINTS: u32 = 20;

/// How many ε have their δ.
const PROFILE_POINTS: u32 = 64;

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

pub(super) fn run(args: &CurveArgs) -> anyhow::Result<()> {
    let terms = Terms::new(&args.terms)?;
    let (noise, steps) = (args.noise.noise_multiplier, args.steps.steps);
    let counts = growth::counts(steps, GROWTH_POINTS, args.spacing);
    // What comes after the last count takes about as long as all before.
    let bar = Bar::new(2 * counts.len() as u64, 0, "points");
    let tick = || bar.advance();

    let mut accountant = accountant(terms.accountant, terms.relation);
    let event = terms.step(noise);
    let by_steps = growth::growth(accountant.as_mut(), &event, terms.delta, &counts, &tick)?;
    let bounds = accountant.epsilon(terms.delta)?;
    let trade_off = TradeOff::new(accountant.as_ref(), PROFILE_POINTS)?;
    let curve = Curve {
        answer: answer::Answer::new(&terms, noise, steps, bounds),
        by_steps,
        by_epsilon: falling(trade_off.profile()),
        trade_off: false_positive_rates()
            .map(|rate| TradeOffPoint {
                false_positive_rate: rate,
                false_negative_rate: trade_off.false_negative_rate(rate),
            })
            .collect(),
        attacker: Attacker::new(accountant.as_ref(), args.base_rate.base_rate)?,
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

/// A profile whose δ never rises: a bound that holds at some ε holds at every larger one.
fn falling(profile: &[(f64, f64)]) -> Vec<EpsilonPoint> {
    let mut least = 1.0_f64;
    let fall = |&(epsilon, delta): &(f64, f64)| {
        least = least.min(delta);
        EpsilonPoint {
            epsilon,
            delta: least,
        }
    };
    profile.iter().map(fall).collect()
}

/// Where the trade-off is shown: some that are rare, then every hundredth.
fn false_positive_rates() -> impl Iterator<Item = f64> {
    let rare = [0.0, 1e-6, 1e-5, 1e-4, 1e-3];
    rare.into_iter()
        .chain((1..=100).map(|hundredths| f64::from(hundredths) / 100.0))
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
        for point in self.by_epsilon.iter().step_by(7) {
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
