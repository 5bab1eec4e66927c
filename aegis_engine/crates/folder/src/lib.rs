//! The one door to a folder that may have come from somebody else: an archive, a share, a backup.
//!
//! The root is opened once ([`Folder::open`]); whatever lies below is reached from that descriptor by a [`Place`], and
//! - no symbolic link is followed and nothing above the root is reached (`openat2` with `RESOLVE_BENEATH`,
//!   `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`; without that call, name by name with `O_NOFOLLOW`);
//! - nothing hangs (`O_NONBLOCK`): a pipe or device in a file's place is refused after it was looked at;
//! - a file is a regular file, a folder a real folder, of the root's owner, the caller or the system;
//! - a file that is written in place has no second name: a hard link would carry the write out of the folder.
//!
//! What is refused for that is an [`Unfit`] inside the [`io::Error`].

mod dir;
mod place;
pub mod private;
mod root;
mod stat;
mod unfit;
mod walk;

pub use dir::AsDir;
pub use place::{Entry, Place};
pub use root::Folder;
pub use stat::{Kind, Stat};
pub use unfit::Unfit;
