//! Functions that only the other crates of this workspace need. They may change in any version.

pub use crate::change_tracker::{ChangeTracker, NeedsComparison};
pub use crate::clock::NEVER;
pub use crate::erasure::{Erasable, ErasableRemoval, ErasurePlan};
pub use crate::error_text::{cut_error_source, cut_error_text};
pub use crate::lease::{DEFAULT_LEASE_TTL, MIN_LEASE_TTL};
pub use crate::resource::explain::nearest;
pub use crate::resource::text::value_from_json;
#[cfg(feature = "toml")]
pub use crate::resource::text::value_from_toml;
#[cfg(feature = "yaml")]
pub use crate::resource::text::value_from_yaml;
pub use crate::search::{SearchClause, SearchPattern, SearchRanking, index_words};
pub use crate::view::{OwnBatch, View};
