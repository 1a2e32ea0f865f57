//! In which state a run is, from its database alone.

use serde_json::Value;

use super::database::Database;

/// A state of a run. Whatever happens between two writes leaves the same state behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The run is stored, its ledger is empty.
    Begun,
    /// Between two rounds.
    Between,
    /// A round is reserved and not open yet.
    Reserved,
    /// A round is open and nobody has reported.
    Open,
    /// A round is open and somebody has reported.
    Reports,
    /// A round is charged and not released.
    Charged,
    /// A round is released and its model not evaluated.
    Released,
    /// The ledger is closed; the run directory may not be there yet.
    Closed,
}

impl Moment {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Begun => "run stored, ledger empty",
            Self::Between => "between two rounds",
            Self::Reserved => "round reserved, not open",
            Self::Open => "round open, no report",
            Self::Reports => "round open, some reports",
            Self::Charged => "charged, not released",
            Self::Released => "released, not evaluated",
            Self::Closed => "ledger closed",
        }
    }
}

/// The round that was reserved last and is open.
pub(crate) fn open_round(database: &mut Database) -> Option<u64> {
    let (kind, round) = last_record(database)?;
    (kind == "reserve").then_some(round)
}

pub(crate) fn has_reported(database: &mut Database, round: u64, client: &str) -> bool {
    let sql = format!(
        "SELECT count(*) FROM participation JOIN clients ON client = id WHERE round = {round} AND name = '{client}'"
    );
    database.number(&sql) > 0
}

/// Kind and round of the last record that is no `resume`; the round is 0 where the record has none.
fn last_record(database: &mut Database) -> Option<(String, u64)> {
    database.last_lines().iter().find_map(|line| {
        let record = serde_json::from_slice::<Value>(line).unwrap()["record"].take();
        let kind = record["kind"].as_str().unwrap();
        let round = record["body"]["round"].as_u64().unwrap_or(0);
        (kind != "resume").then(|| (kind.to_owned(), round))
    })
}

/// The state of the run; `None` if none is stored.
pub(crate) fn moment(database: &mut Database) -> Option<Moment> {
    if !database.has_run() {
        return None;
    }
    let Some((kind, round)) = last_record(database) else {
        return Some(Moment::Begun);
    };
    let mut none = |table: &str| database.number(&format!("SELECT count(*) FROM {table}")) == 0;
    Some(match kind.as_str() {
        "close" => Moment::Closed,
        "charge" => Moment::Charged,
        "reserve" if none("open_rounds") => Moment::Reserved,
        "reserve" if none(&format!("participation WHERE round = {round}")) => Moment::Open,
        "reserve" => Moment::Reports,
        "release" if none(&format!("rounds WHERE round = {round}")) => Moment::Released,
        _ => Moment::Between,
    })
}
