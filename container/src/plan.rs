use crate::builder::Config;
use crate::compile::Blueprint;
use crate::groups::Place;
use crate::seen::Own;
use crate::{
    Container, Enforcement, ExitStatus, Feature, Id, Item, Output, Policy, Result, Stage, Stdio,
};
use ireko_namespaces::start::Compiled;
use ireko_sys::Errno;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// A checked, compiled container. Spawn it any number of times, from any thread;
/// clones share everything. Displays as the steps that will be taken.
///
/// It holds by fd what must not change until then: the tree, the mount sources.
/// What differs from run to run is set on a clone, with nothing compiled again:
/// `plan.clone().stdin(file).output()`.
#[derive(Clone, Debug)]
#[must_use = "nothing starts until spawn(), status() or output()"]
pub struct Plan {
    pub(crate) inner: Arc<Inner>,
    pub(crate) stdio: [Option<Stdio>; 3],
    pub(crate) id: Option<Id>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) blueprint: Blueprint,
    pub(crate) compiled: Compiled,
    pub(crate) place: Place,
    pub(crate) own: Own,
    /// One start of it has been looked at from outside.
    pub(crate) seen: AtomicBool,
    full: OnceLock<Enforcement>,
    steps: Vec<Step>,
}

impl Inner {
    /// What is in force after a start in which these steps did not hold: each of the
    /// others said so itself, or the start had failed.
    pub(crate) fn enforcement(&self, missed: &[(usize, Errno)], limits: &[Item]) -> Enforcement {
        let make = |missed: &[_]| {
            let mut items = self.blueprint.enforcement(missed);
            items.extend_from_slice(limits);
            Enforcement(items.into())
        };
        // Nearly always nothing is missed: then all share one.
        if missed.is_empty() { self.full.get_or_init(|| make(&[])).clone() } else { make(missed) }
    }
}

impl Plan {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let place = Place::find(config)?;
        let blueprint = Blueprint::new(config, &place)?;
        Self::assemble(config.clone(), blueprint, place)
    }

    fn assemble(config: Config, blueprint: Blueprint, place: Place) -> Result<Self> {
        let compiled = blueprint.recipe.compile()?;
        let mut steps = place.steps();
        steps.extend(blueprint.outer_steps());
        steps.extend(compiled.steps().iter().map(|step| Step {
            stage: blueprint.note(step.tag).stage,
            feature: blueprint.note(step.tag).feature,
            text: step.text.clone(),
        }));
        let stdio = config.stdio.clone();
        let id = config.id.clone();
        let own = Own::of(blueprint.shape.cloned())?;
        let inner = Arc::new(Inner {
            config,
            blueprint,
            compiled,
            place,
            own,
            seen: AtomicBool::new(false),
            full: OnceLock::new(),
            steps,
        });
        Ok(Self { inner, stdio, id })
    }

    /// Another standard input than the builder's.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Another standard output.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Another standard error.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// The name of the next one.
    pub fn id(mut self, id: Id) -> Self {
        self.id = Some(id);
        self
    }

    /// Starts one. The program has been executed when this returns.
    ///
    /// # Errors
    /// Everything up to exec, a missing program included; nothing is left behind.
    pub fn spawn(&self) -> Result<Container> {
        crate::spawn::spawn(self, [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit])
    }

    /// Starts one and waits for its end.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Container::wait`].
    pub fn status(&self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts one, waits for its end and keeps what it prints.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Container::wait`].
    pub fn output(&self) -> Result<Output> {
        crate::spawn::spawn(self, [Stdio::Null, Stdio::Piped, Stdio::Piped])?.wait_with_output()
    }

    /// What will be done, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.inner.steps
    }

    /// The same with the action of one of the child's steps left out and its check in:
    /// how tests show that a step counts. `None` past the last.
    ///
    /// # Errors
    /// As [`Builder::plan`](crate::Builder::plan).
    #[cfg(feature = "fault-injection")]
    pub fn without_step(&self, index: usize) -> Result<Option<(Self, String)>> {
        let Some(step) = self.inner.compiled.steps().get(index) else { return Ok(None) };
        let text = step.text.clone();
        let place = Place::find(&self.inner.config)?;
        let mut blueprint = Blueprint::new(&self.inner.config, &place)?;
        blueprint.recipe.knock_out(index);
        Ok(Some((Self::assemble(self.inner.config.clone(), blueprint, place)?, text)))
    }
}

/// ```text
///  1 cgroup   make a group in ...
///  2 clone    ...
/// ```
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps().iter().enumerate() {
            writeln!(f, "{:3} {:8} {step}", index + 1, step.stage())?;
        }
        Ok(())
    }
}

/// One thing that will be done. Displays as it stands in the plan.
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) stage: Stage,
    pub(crate) feature: Option<(Feature, Policy)>,
    pub(crate) text: String,
}

impl Step {
    /// To which part of the start it belongs.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What it is for, and what happens where it cannot be done; `None`: plumbing.
    #[must_use]
    pub fn feature(&self) -> Option<(Feature, Policy)> {
        self.feature
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.feature {
            Some((_, Policy::Preferred)) => f.write_str(", if the host allows"),
            _ => Ok(()),
        }
    }
}
