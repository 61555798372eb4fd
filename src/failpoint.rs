//! Places at which a test ends the process as `kill -9` does, or spoils a step. Without
//! the feature `failpoints` nothing of it is there, and no release has that feature.
//!
//! `FAILPOINTS='after_send=3*off->return'` ends the process when it comes to
//! `after_send` for the fourth time; `commit_answer=3*off->1*return(error)` makes one
//! step fail. The grammar is that of the crate `fail`.

/// Marks a place: `at!("after_send")`; `at!("before_ack", when)` where it counts only then.
#[cfg(feature = "failpoints")]
macro_rules! at {
    ($name:literal) => {
        $crate::failpoint::reach($name)
    };
    ($name:literal, $when:expr) => {
        if $when {
            $crate::failpoint::reach($name);
        }
    };
}

#[cfg(not(feature = "failpoints"))]
macro_rules! at {
    ($name:literal $(, $when:expr)?) => {};
}

/// Marks a step that fails with an error where a test says so.
#[cfg(feature = "failpoints")]
macro_rules! fails {
    ($name:literal, $error:expr) => {
        if $crate::failpoint::reach($name) {
            return Err($error);
        }
    };
}

#[cfg(not(feature = "failpoints"))]
macro_rules! fails {
    ($name:literal, $error:expr) => {};
}

pub(crate) use {at, fails};

/// Arms the places that `FAILPOINTS` names, for the life of the process.
#[cfg(feature = "failpoints")]
pub fn arm() {
    std::mem::forget(fail::FailScenario::setup());
}

/// Ends the process where its time has come; true where the step is to fail instead.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &str) -> bool {
    fail::fail_point!(name, |word| word.as_deref() == Some("error") || end());
    false
}

#[cfg(feature = "failpoints")]
fn end() -> bool {
    use rustix::process::{Signal, getpid, kill_process};
    // Nothing of the process runs on after this.
    kill_process(getpid(), Signal::KILL).is_err()
}
