//! Everything that can go wrong in secure aggregation, one enum with stable codes.

/// Why a step was refused. No variant carries a key, a share or a value of an update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecAggError {
    /// Bytes are not a well-formed message (or state) of the expected kind.
    #[error("{message} is malformed: {reason}; check that both sides run the same AEGIS version")]
    Malformed {
        /// Which message was expected.
        message: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No ring of at most 64 bits holds the sum of `clients` contributions.
    #[error(
        "the sum of {clients} clients does not fit 64 bits; lower value_bits, weight_max or metric_max"
    )]
    EncodingDoesNotFit {
        /// Number of clients the ring was asked to hold.
        clients: u64,
    },
    /// A plan with impossible numbers.
    #[error("aggregation plan refused: {reason}")]
    InvalidPlan {
        /// Which field and its allowed range.
        reason: &'static str,
    },
    /// A plan that asks for other sums than the client's own constants allow.
    #[error(
        "plan refused: {reason}; metrics and bounds are constants of the client, so both sides must run the same AEGIS and the same secagg.weighting"
    )]
    PlanNotOurs {
        /// Which constant differs.
        reason: &'static str,
    },
    /// A round number that would leave no room for later ones.
    #[error(
        "round {round} refused: rounds are 1 to 2^31, and at most 2^20 later than the last one begun"
    )]
    RoundOutOfRange {
        /// Proposed round.
        round: u64,
    },
    /// The cohort is below a client's own minimum.
    #[error(
        "cohort of {n} clients refused: a client takes part in {minimum} or more; let more join, or lower its minimum"
    )]
    CohortTooSmall {
        /// Size of the proposed cohort.
        n: u32,
        /// The client's minimum.
        minimum: u32,
    },
    /// A client of the cohort is under another policy than this one, whose operator asks for the same.
    #[error(
        "node {node} refused: its data are under another policy bundle than this node's; agree on one bundle"
    )]
    PolicyMismatch {
        /// The other client.
        node: u64,
    },
    /// The threshold is below max(own minimum, floor(2n/3)+1), or above n.
    #[error(
        "threshold {threshold} refused for {n} clients: {minimum} or more is needed, at most {n}"
    )]
    ThresholdRefused {
        /// Proposed threshold.
        threshold: u32,
        /// Lowest threshold this client accepts.
        minimum: u32,
        /// Size of the cohort.
        n: u32,
    },
    /// Degree, threshold or the missing commit step would give this client too little protection.
    #[error("shape of degree {degree} refused for {n} clients: {reason}")]
    ShapeRefused {
        /// Proposed number of neighbours.
        degree: u32,
        /// Size of the cohort.
        n: u32,
        /// Which rule is broken.
        reason: &'static str,
    },
    /// Round numbers must grow strictly.
    #[error("round {round} refused: round {last} was already begun; start a later round")]
    RoundOrder {
        /// Proposed round.
        round: u64,
        /// Last round that was begun.
        last: u64,
    },
    /// A step was already answered in this round; answering again could leak.
    #[error("{step} of round {round} was already answered; start a later round")]
    AlreadyAnswered {
        /// Which step.
        step: &'static str,
        /// In which round.
        round: u64,
    },
    /// A message came in a step where it cannot be used (late, early, or of another round).
    #[error("{step} refused: {reason}")]
    WrongStep {
        /// Which step was asked for.
        step: &'static str,
        /// Why it cannot be served.
        reason: &'static str,
    },
    /// A message of another run.
    #[error("message of run {found} refused in run {expected}")]
    WrongRun {
        /// The run of this object.
        expected: u64,
        /// The run named by the message.
        found: u64,
    },
    /// A node that is not in the roster, the cohort or the round.
    #[error("node {node} is not known here: add it to the roster, or wait for the next round")]
    UnknownNode {
        /// The node.
        node: u64,
    },
    /// A signature is missing or wrong, or made by another identity than the pinned one.
    #[error("node {node}: signature does not verify under its pinned identity; check the roster")]
    BadSignature {
        /// The node whose signature failed.
        node: u64,
    },
    /// The cohort message contradicts what this client knows.
    #[error("cohort of round {round} refused: {reason}")]
    InconsistentCohort {
        /// The round.
        round: u64,
        /// What contradicts.
        reason: &'static str,
    },
    /// A sealed share cannot be opened: changed on the way, or sealed in another view of the round.
    #[error(
        "sealed share of node {node} refused: altered, or sealed for another cohort; exclude that node"
    )]
    ShareRejected {
        /// Who sealed it.
        node: u64,
    },
    /// Survivors and dropped clients do not form an acceptable unmask request.
    #[error("unmask request of round {round} refused: {reason}")]
    InconsistentSets {
        /// The round.
        round: u64,
        /// Which rule is broken.
        reason: &'static str,
    },
    /// Too few clients remain; the round is over and the model unchanged.
    #[error("not enough clients: {have} remain, {need} are needed")]
    NotEnoughClients {
        /// How many remain.
        have: u32,
        /// How many are needed.
        need: u32,
    },
    /// The update, the weight or a metric cannot be encoded under the plan.
    #[error("update refused: {reason}")]
    BadUpdate {
        /// Which rule is broken; never a value.
        reason: &'static str,
    },
    /// X25519 with this peer failed (an all-zero result is refused, RFC 7748 section 6.1).
    #[error("key agreement with node {node} failed: its public key is not usable")]
    KeyAgreement {
        /// The peer.
        node: u64,
    },
    /// Shares of a secret of this node do not fit together, whichever of the holders are asked.
    #[error(
        "the shares of node {node} do not give its secret back, whoever of their holders is left out: {node} sealed false \
         ones, or several clients sent others than they were given"
    )]
    SharesDisagree {
        /// Whose secret.
        node: u64,
    },
    /// The unmasked sum lies outside what honest clients can produce.
    #[error(
        "the unmasked sum is impossible ({reason}): clients were sent different models, tasks or noise, or a client lies"
    )]
    ImplausibleSum {
        /// What is impossible.
        reason: &'static str,
    },
    /// The operating system's randomness or the cryptographic library failed.
    #[error("cryptographic operation failed: {what}")]
    Crypto {
        /// Which operation.
        what: &'static str,
    },
}

impl SecAggError {
    /// Stable code for logs and for the error records sent to the server.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "AEG-S001",
            Self::EncodingDoesNotFit { .. } => "AEG-S002",
            Self::InvalidPlan { .. } => "AEG-S003",
            Self::CohortTooSmall { .. } => "AEG-S004",
            Self::ThresholdRefused { .. } => "AEG-S005",
            Self::RoundOrder { .. } => "AEG-S006",
            Self::AlreadyAnswered { .. } => "AEG-S007",
            Self::WrongStep { .. } => "AEG-S008",
            Self::WrongRun { .. } => "AEG-S009",
            Self::UnknownNode { .. } => "AEG-S010",
            Self::BadSignature { .. } => "AEG-S011",
            Self::InconsistentCohort { .. } => "AEG-S012",
            Self::ShareRejected { .. } => "AEG-S013",
            Self::InconsistentSets { .. } => "AEG-S014",
            Self::NotEnoughClients { .. } => "AEG-S015",
            Self::BadUpdate { .. } => "AEG-S016",
            Self::KeyAgreement { .. } => "AEG-S017",
            Self::SharesDisagree { .. } => "AEG-S018",
            Self::ImplausibleSum { .. } => "AEG-S019",
            Self::Crypto { .. } => "AEG-S020",
            Self::ShapeRefused { .. } => "AEG-S021",
            Self::PolicyMismatch { .. } => "AEG-S022",
            Self::PlanNotOurs { .. } => "AEG-S023",
            Self::RoundOutOfRange { .. } => "AEG-S024",
        }
    }
}
