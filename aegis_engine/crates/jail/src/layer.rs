//! The layers of a jail, by name.

/// What stops untrusted code. Each is put up by a system call of its own, and most channels are closed by more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// User, network, pid, mount, IPC and UTS namespaces.
    Namespaces,
    /// A root of its own, of the named paths only.
    View,
    /// Landlock: files by path, TCP, abstract sockets, signals.
    Landlock,
    /// seccomp: an allow-list of system calls.
    Seccomp,
    /// Limits of CPU, memory, threads, files.
    Limits,
    /// No capability, and none to be had.
    Capabilities,
}

impl Layer {
    /// All of them, in the order in which they are put up.
    pub const ALL: [Self; 6] = [
        Self::Namespaces,
        Self::View,
        Self::Limits,
        Self::Capabilities,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// The name in configurations, reports and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::View => "view",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Limits => "limits",
            Self::Capabilities => "capabilities",
        }
    }

    /// The layer of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == name)
    }
}

/// A set of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers(u8);

impl Layers {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Every one.
    pub fn all() -> Self {
        Layer::ALL.into_iter().fold(Self::NONE, Self::with)
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, layer: Layer) -> Self {
        Self(self.0 | 1 << layer as u8)
    }

    /// These without one.
    #[must_use]
    pub fn without(self, layer: Layer) -> Self {
        Self(self.0 & !(1 << layer as u8))
    }

    /// Whether a layer is among them.
    pub fn has(self, layer: Layer) -> bool {
        self.0 & 1 << layer as u8 != 0
    }

    /// Their names, in the order of [`Layer::ALL`].
    pub fn names(self) -> Vec<&'static str> {
        Layer::ALL
            .into_iter()
            .filter(|layer| self.has(*layer))
            .map(Layer::name)
            .collect()
    }
}
