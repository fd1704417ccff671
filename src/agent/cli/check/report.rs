//! Report of `check`.

use kms_agent_core::config::Problem;
use kms_agent_kms::{Finding, StepOutcome};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::terminal::{shown, shown_json};

/// Findings, in the order of the steps.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    /// Warnings about settings that are accepted without effect.
    warnings: Vec<String>,
    findings: Vec<Finding>,
    /// Whether a finding would stop every startup of the agent.
    bars_start: bool,
}

impl Report {
    /// Report on the file `config`, which has `problems`; nothing else was examined.
    pub(super) fn of_problems(config: String, problems: &[Problem]) -> Self {
        Self {
            problems: problems.to_vec(),
            findings: vec![Finding {
                step: "config",
                outcome: StepOutcome::Failed {
                    what: config,
                    remedy: "fix what `problems` lists".to_owned(),
                },
            }],
            ..Self::default()
        }
    }

    /// Report on a file without problems.
    pub(super) fn begin(config: String) -> Self {
        let mut report = Self::default();
        report.add(vec![Finding {
            step: "config",
            outcome: StepOutcome::Passed(config),
        }]);
        report
    }

    /// Adds the warnings of the config.
    pub(super) fn warn(mut self, warnings: &[String]) -> Self {
        self.warnings.extend_from_slice(warnings);
        self
    }

    pub(super) fn add_local(&mut self, steps: Vec<(&'static str, Result<String, Failure>)>) {
        for (step, result) in steps {
            let outcome = match result {
                Ok(found) => StepOutcome::Passed(found),
                Err(failure) => {
                    self.bars_start |= failure.is_config();
                    StepOutcome::Failed {
                        what: failure.message().to_owned(),
                        remedy: String::new(),
                    }
                }
            };
            self.findings.push(Finding { step, outcome });
        }
    }

    pub(super) fn add(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    /// `text`, and below it a line for each warning.
    pub(super) fn with_warnings(&self, text: String) -> String {
        let warnings = self.warnings.iter();
        std::iter::once(text)
            .chain(
                warnings
                    .map(|warning| format!("{:<8} {:<12} {}", "warning", "config", shown(warning))),
            )
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Returns the text with one line a step.
    pub(super) fn text(&self) -> String {
        let lines: Vec<String> = self
            .findings
            .iter()
            .map(|Finding { step, outcome }| {
                let (state, told) = match outcome {
                    StepOutcome::Passed(found) => ("ok", found.clone()),
                    StepOutcome::Warned(what) => ("warning", what.clone()),
                    StepOutcome::Failed { what, remedy } if remedy.is_empty() => {
                        ("FAILED", what.clone())
                    }
                    StepOutcome::Failed { what, remedy } => ("FAILED", format!("{what}; {remedy}")),
                    StepOutcome::Skipped(why) => ("skipped", (*why).to_owned()),
                };
                format!("{state:<8} {step:<12} {}", shown(&told))
            })
            .collect();
        self.with_warnings(lines.join("\n"))
    }

    /// Returns one line of JSON with every step that was run.
    pub(super) fn json(&self) -> String {
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| {
                let mut value =
                    json!({"line": problem.line, "key": problem.key, "message": problem.message});
                if let (Some(name), Some(members)) = (&problem.variable, value.as_object_mut()) {
                    members.insert("variable".to_owned(), json!(name));
                }
                value
            })
            .collect();
        let steps: Vec<Value> = self.findings.iter().map(step).collect();
        let mut report = json!({
            "ok": self.problems.is_empty() && self.failures() == 0,
            "problems": problems,
            "steps": steps,
        });
        if !self.warnings.is_empty()
            && let Some(members) = report.as_object_mut()
        {
            members.insert("warnings".to_owned(), json!(self.warnings));
        }
        shown_json(&report.to_string()).into_owned()
    }

    /// Returns the outcome of the command.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let all = self.findings.len();
        match self.failures() {
            0 => Ok(()),
            failed if self.bars_start => {
                Err(Failure::config(format!("{failed} of {all} steps failed")))
            }
            failed => Err(Failure::failed(format!("{failed} of {all} steps failed"))),
        }
    }

    fn failures(&self) -> usize {
        self.findings
            .iter()
            .filter(|finding| matches!(finding.outcome, StepOutcome::Failed { .. }))
            .count()
    }
}

fn step(Finding { step, outcome }: &Finding) -> Value {
    match outcome {
        StepOutcome::Passed(found) => json!({"step": step, "state": "ok", "detail": found}),
        StepOutcome::Warned(what) => json!({"step": step, "state": "warning", "detail": what}),
        StepOutcome::Failed { what, remedy } if remedy.is_empty() => {
            json!({"step": step, "state": "failed", "detail": what})
        }
        StepOutcome::Failed { what, remedy } => {
            json!({"step": step, "state": "failed", "detail": what, "remedy": remedy})
        }
        StepOutcome::Skipped(why) => json!({"step": step, "state": "skipped", "detail": why}),
    }
}
