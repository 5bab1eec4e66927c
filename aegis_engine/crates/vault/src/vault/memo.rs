//! What a room above the vault has read and need not read again in this process. The handle keeps it and does not know what
//! it is, so that no type of a room above is named here.

use std::any::Any;
use std::sync::{Mutex, PoisonError};

/// One value of one type: the type that first asks.
#[derive(Default)]
pub(crate) struct Memo(Mutex<Option<Box<dyn Any + Send>>>);

impl Memo {
    /// Lets `work` use the value, which starts as its default. Others wait.
    pub fn with<T: Default + Send + 'static, R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.get_or_insert_with(|| Box::new(T::default()));
        match known.downcast_mut() {
            Some(value) => work(value),
            // Of another type, which never happens: nothing is remembered then.
            None => work(&mut T::default()),
        }
    }
}
