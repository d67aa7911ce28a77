//! Deliberate faults of the evaluator. Only tests are built with them: the oracle must find each.

use std::cell::Cell;

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A revoked key still counts.
    IgnoreRevocation,
    /// Trust flows up: an index is covered when any one platform is.
    AnyPlatform,
    /// A trusted signer may speak for every builder.
    IgnoreBuilderPair,
    /// Any ref will do.
    SkipRefs,
    /// Two rules of one domain count twice.
    CountRulesNotDomains,
    /// Whoever two domains name is two builders.
    OneOperatorTwice,
    /// A cycle proves itself.
    CycleProves,
    /// Results found under an open ancestor are kept.
    MemoiseInProgress,
    /// Only the last hop of a promotion is looked at.
    SkipPreviousHop,
    /// Keys and rules count at any time.
    IgnoreWindows,
    /// Of policies with equal priority the first decides.
    FirstOfEqualPolicies,
    /// The certificate and the provenance may contradict each other.
    IgnoreCertificate,
    /// A certificate's name may go on after what the policy names.
    UnanchoredNames,
    /// Certificates count whoever vouches for them, whenever.
    IgnoreVouchers,
    /// Of one signer's results the oldest decides.
    OldestResult,
    /// A verification summary stands for every repository.
    AnyResource,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 16] = [
        Self::IgnoreRevocation,
        Self::AnyPlatform,
        Self::IgnoreBuilderPair,
        Self::SkipRefs,
        Self::CountRulesNotDomains,
        Self::OneOperatorTwice,
        Self::CycleProves,
        Self::MemoiseInProgress,
        Self::SkipPreviousHop,
        Self::IgnoreWindows,
        Self::FirstOfEqualPolicies,
        Self::IgnoreCertificate,
        Self::UnanchoredNames,
        Self::IgnoreVouchers,
        Self::OldestResult,
        Self::AnyResource,
    ];
}

thread_local! {
    static ACTIVE: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Switches a fault on, or all off, on this thread.
pub fn set(fault: Option<Fault>) {
    ACTIVE.set(fault);
}

/// Whether `fault` is on.
pub(crate) fn on(fault: Fault) -> bool {
    ACTIVE.get() == Some(fault)
}
