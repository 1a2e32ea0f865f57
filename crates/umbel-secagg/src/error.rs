//! What can go wrong, by whose fault.

use crate::codec::DecodeError;
use crate::parameters::NoParameters;

/// Why a client does not go on. But for [`AlreadyAnswered`](Self::AlreadyAnswered) its secrets of this attempt are gone, and
/// nothing more is ever opened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The message belongs to a step that is over: each is answered once. Nothing has changed.
    #[error("{message} came twice or too early: the client {state}")]
    AlreadyAnswered {
        /// The message.
        message: &'static str,
        /// What the client is doing.
        state: &'static str,
    },
    /// The bytes are no such message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The input has another length than the terms say.
    #[error("expected {expected} integers, got {got}")]
    Dimension {
        /// The length in the terms.
        expected: usize,
        /// The input's.
        got: usize,
    },
    /// The terms name another mechanism than the client's.
    #[error("the round's mechanism is not the one whose settings the client has checked")]
    OtherMechanism,
    /// The terms name another model than the one that the client was given.
    #[error("the round's model is not the one that the client was given")]
    OtherModel,
    /// The terms are another federation's.
    #[error("the round belongs to another federation")]
    OtherFederation,
    /// A key cannot be agreed with, or stands twice on the roster.
    #[error("the roster holds a key that is repeated, malformed or of low order: client {client}")]
    Key {
        /// Whose.
        client: u64,
    },
    /// The terms are weaker than the client's own.
    #[error("`{term}` must be at least {least}, the round offers {got}")]
    WeakerTerms {
        /// The term.
        term: &'static str,
        /// The client's bound.
        least: f64,
        /// The server's offer.
        got: f64,
    },
    /// The honest survivors' noise would not reach the target.
    #[error("honest survivors must add noise of variance {target} at least, they would add {got}")]
    Noise {
        /// The variance that is promised.
        target: f64,
        /// The variance at the survivors' floor.
        got: f64,
    },
    /// No parameters are safe for the roster.
    #[error(transparent)]
    NoParameters(#[from] NoParameters),
    /// The client itself is not on the roster, or with other keys.
    #[error("the roster does not hold this client with its own keys")]
    NotOnRoster,
    /// The client is not among those whose inputs are summed.
    #[error("the client's own message was left out of the set of those who {what}")]
    LeftOut {
        /// What the others did.
        what: &'static str,
    },
    /// The roster is out of order, repeats a client, or holds somebody whom the authority has not certified.
    #[error("the roster is not in ascending order of clients, each once and certified: {client}")]
    Roster {
        /// At which client.
        client: u64,
    },
    /// The roster has too few or too many clients.
    #[error("a roster must have {least} to {most} clients, got {got}")]
    RosterSize {
        /// The fewest.
        least: u32,
        /// The most.
        most: u32,
        /// What came.
        got: u32,
    },
    /// Two survivor sets could both be confirmed.
    #[error(
        "with {clients} clients of whom {colluding} collude, more than half of their sum must survive, the floor is {survivors}"
    )]
    SurvivorFloor {
        /// Clients on the roster.
        clients: u32,
        /// Clients that may collude.
        colluding: u32,
        /// The floor that is offered.
        survivors: u32,
    },
    /// A signature does not verify.
    #[error("the signature of the {message} does not verify")]
    Signature {
        /// What was signed.
        message: &'static str,
    },
    /// Another client was shown another set of those who shared.
    #[error("client {client} was shown another set of those who shared")]
    SplitView {
        /// Who.
        client: u64,
    },
    /// A set that must lie within another does not.
    #[error("survivors must have shared their secrets first")]
    SurvivorsNotSharers,
    /// The round or attempt is not later than one that the client has seen.
    #[error("round {round}, attempt {attempt} is not later than what this client has taken part in")]
    Replayed {
        /// The round.
        round: u64,
        /// The attempt.
        attempt: u32,
    },
    /// Fewer than are needed.
    #[error("{what}: at least {least} are needed, got {got}")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// How many are needed.
        least: u32,
        /// How many there are.
        got: u32,
    },
    /// The time in which the round may be opened is over.
    #[error("the round's time is over")]
    TooLate,
}

/// What is wrong with one client's message. It is dropped; the round goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The client has sent one before; the first stands.
    #[error("client {client} has already sent its {message}")]
    AlreadySent {
        /// Who.
        client: u64,
        /// What.
        message: &'static str,
    },
    /// The authority has not certified the client.
    #[error("client {client} is not certified")]
    Certificate {
        /// Who.
        client: u64,
    },
    /// The bytes are no such message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A key cannot be agreed with, or is somebody else's.
    #[error("client {client} sent a key that is repeated, malformed or of low order")]
    Key {
        /// Who.
        client: u64,
    },
    /// The vector has another length, or bits beyond its end.
    #[error("client {client} sent {got} bytes of input, expected {expected} with zeros at the end")]
    Length {
        /// Who.
        client: u64,
        /// Bytes of a packed vector.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The client saw other sets than this server's.
    #[error("client {client} answers to another set of clients")]
    OtherView {
        /// Who.
        client: u64,
    },
    /// There is room for no more clients.
    #[error("the roster is full")]
    RosterFull,
    /// A signature does not verify.
    #[error("client {client}'s signature does not verify")]
    Signature {
        /// Who.
        client: u64,
    },
    /// The client is not, or not any more, in the round.
    #[error("client {client} has no part in this step of the round")]
    Uninvited {
        /// Who.
        client: u64,
    },
    /// The round is at another step.
    #[error("{message} is not taken now: the round is {state}")]
    WrongStep {
        /// The message.
        message: &'static str,
        /// What the server is doing.
        state: &'static str,
    },
}

/// Why a server cannot finish an attempt.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Abort {
    /// The driver called something that is not possible now.
    #[error("{call} is not possible now: the round is {state}")]
    ApiMisuse {
        /// The call.
        call: &'static str,
        /// What the server is doing.
        state: &'static str,
    },
    /// A client dealt shares that do not give what it committed to. The openings prove it to anybody.
    #[error("client {client} dealt shares of something else than it committed to")]
    Dealer {
        /// Who.
        client: u64,
    },
    /// The roster that came together is not safe.
    #[error("the roster is not safe: {0}")]
    Roster(Refusal),
    /// Fewer than are needed.
    #[error("{what}: at least {least} are needed, got {got}")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// How many are needed.
        least: u32,
        /// How many there are.
        got: u32,
    },
    /// The terms themselves are malformed.
    #[error("the round's terms are malformed: {0}")]
    Terms(DecodeError),
    /// Too few shares of a client's secret came back.
    #[error("client {client}'s secret needs {least} shares, {got} valid ones came")]
    Unrecoverable {
        /// Whose.
        client: u64,
        /// The threshold.
        least: u32,
        /// Valid shares.
        got: u32,
    },
}
