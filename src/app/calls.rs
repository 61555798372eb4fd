//! Calling duty officers (叫应) about a dispatch, by rule or by hand.

use super::App;
use crate::channel::{AddressKind, Target};
use crate::domain::item::Content;
use crate::say;
use crate::store::dispatches::{Dispatch, Mode};
use crate::store::{Result, StoreError};

/// What became of the call that a dispatch asks for.
#[derive(Debug)]
pub enum Called {
    /// The call's own dispatch.
    Made(Box<Dispatch>),
    /// The rules ask for none.
    NotAsked,
    /// Nobody is registered; every village is for the telephone.
    NoOfficers,
}

impl App {
    /// Whether the rules of this site call duty officers about such a dispatch.
    #[must_use]
    pub fn calls_for(&self, content: &Content, mode: Mode) -> bool {
        matches!(mode, Mode::Live | Mode::Drill) && self.config.calls.are_for(content)
    }

    /// Calls the duty officers about a dispatch where the rules ask for it.
    ///
    /// # Errors
    /// When the site has no channel to call by, or the database fails.
    pub async fn call_by_rule(&self, about: &Dispatch, content: &Content) -> Result<Called> {
        if !self.calls_for(content, about.mode) {
            return Ok(Called::NotAsked);
        }
        if !self.store.has_officers().await? {
            return Ok(Called::NoOfficers);
        }
        Ok(Called::Made(Box::new(self.call(about, &about.created_by).await?)))
    }

    /// Calls the duty officers of every village of a dispatch that has not confirmed.
    ///
    /// # Errors
    /// When the site has no channel to call by, the dispatch is over, or the database
    /// fails.
    pub async fn call(&self, about: &Dispatch, operator: &str) -> Result<Dispatch> {
        let refused = |e: crate::config::ConfigError| StoreError::Refused(e.to_string());
        let plan = self.config.call_plan().map_err(refused)?;
        let name = &self.config.calls.channel;
        let to_phones = self.registry.get(name).is_some_and(|c| c.target() == Target::Address(AddressKind::Phone));
        if !to_phones {
            return Err(StoreError::Refused(say!(
                "叫应要用短信渠道，但没有名为“{name}”的短信渠道。请在配置的 [calls] channel 中写明",
                "calls go by SMS, and there is no SMS channel named `{name}`. Name one in [calls] channel of the configuration"
            )));
        }
        self.store.create_call(about, plan, operator).await
    }
}
