//! Evaluation, in counted steps. What is too large to look at costs as many steps as it is large.

use std::{cmp::Ordering, sync::Arc};

use super::{
    bindings::Bindings,
    parse::{Fold, Node, Operator},
    value::Value,
};

/// Most steps of one expression.
const MAX_STEPS: u64 = 100_000;
/// Most steps of all expressions of one evaluation.
const MAX_TOTAL: u64 = 5_000_000;

/// Why there is no answer. Never true, never false.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A member or element is not there.
    #[error("`{0}` is missing")]
    Missing(String),
    /// An operator or function got what it does not take.
    #[error("{0}")]
    Kind(String),
    /// Arithmetic left its range, or divided by zero.
    #[error("{0}")]
    Arithmetic(&'static str),
    /// The expression is neither true nor false.
    #[error("the expression is {0}, not a bool")]
    NotBool(&'static str),
    /// The steps are spent.
    #[error("the expression takes more than {MAX_STEPS} steps")]
    Limit,
    /// The steps of the whole evaluation are spent.
    #[error("the expressions of one evaluation take more than {MAX_TOTAL} steps")]
    Total,
}

/// The steps that the expressions of one evaluation may still take.
#[derive(Debug)]
pub struct Budget {
    left: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: MAX_TOTAL }
    }
}

/// Evaluates to a bool.
pub fn evaluate(root: &Node, bindings: &Bindings, budget: &mut Budget) -> Result<bool, Fault> {
    let mut steps = MAX_STEPS.min(budget.left);
    let short = budget.left < MAX_STEPS;
    let mut run = Run { bindings, variables: Vec::new(), steps };
    let result = run.value(root);
    steps -= run.steps;
    budget.left -= steps;
    match result {
        Ok(Value::Bool(value)) => Ok(value),
        Ok(other) => Err(Fault::NotBool(other.kind())),
        Err(Fault::Limit) if short => Err(Fault::Total),
        Err(fault) => Err(fault),
    }
}

struct Run<'e> {
    bindings: &'e Bindings,
    variables: Vec<(&'e str, Value)>,
    steps: u64,
}

impl Operator {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Different => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
            Self::In => "in",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::Over => "/",
            Self::Modulo => "%",
        }
    }
}

impl<'e> Run<'e> {
    fn spend(&mut self, steps: u64) -> Result<(), Fault> {
        self.steps = self.steps.checked_sub(steps).ok_or(Fault::Limit)?;
        Ok(())
    }

    fn weigh(&mut self, value: &Value) -> Result<(), Fault> {
        if value.weigh(&mut self.steps) { Ok(()) } else { Err(Fault::Limit) }
    }

    fn value(&mut self, node: &'e Node) -> Result<Value, Fault> {
        self.spend(1)?;
        match node {
            Node::Literal(value) => Ok(value.clone()),
            Node::Name(name) => self.variable(name),
            Node::Member(of, name) => {
                let members = self.members(of)?;
                members.get(name).cloned().ok_or_else(|| Fault::Missing(name.clone()))
            }
            Node::Has(of, name) => {
                Ok(Value::Bool(self.members(of)?.get(name).is_some_and(|v| *v != Value::Null)))
            }
            Node::Index(of, index) => {
                let (of, index) = (self.value(of)?, self.value(index)?);
                element(&of, &index)
            }
            Node::List(items) => {
                let items = items.iter().map(|item| self.value(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(Value::list(items))
            }
            Node::Map(pairs) => self.map(pairs),
            Node::Not(of) => Ok(Value::Bool(!self.bool(of)?)),
            Node::Negative(of) => match self.value(of)? {
                Value::Int(value) => value.checked_neg().map(Value::Int).ok_or(OVERFLOW),
                Value::Double(value) => Ok(Value::Double(-value)),
                other => Err(Fault::Kind(format!("`-` does not take {}", other.kind()))),
            },
            Node::All(terms) => {
                for term in terms {
                    if !self.bool(term)? {
                        return Ok(Value::Bool(false));
                    }
                }
                Ok(Value::Bool(true))
            }
            Node::Any(terms) => {
                for term in terms {
                    if self.bool(term)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                self.weigh(&a)?;
                self.weigh(&b)?;
                binary(*operator, &a, &b)
            }
            Node::Choice(three) => {
                let [condition, then, other] = &**three;
                if self.bool(condition)? { self.value(then) } else { self.value(other) }
            }
            Node::Call(function, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    let value = self.value(argument)?;
                    if let Value::Text(_) = value {
                        self.weigh(&value)?;
                    }
                    values.push(value);
                }
                function.call(&values).map_err(Fault::Kind)
            }
            Node::Glob(text, glob) => match self.value(text)? {
                Value::Text(text) => {
                    self.spend(1 + text.len() as u64)?;
                    Ok(Value::Bool(glob.matches(&text)))
                }
                other => Err(Fault::Kind(format!("`glob` does not take {}", other.kind()))),
            },
            Node::Matches(text, pattern) => match self.value(text)? {
                Value::Text(text) => {
                    self.spend(1 + text.len() as u64)?;
                    Ok(Value::Bool(pattern.is_in(&text)))
                }
                other => Err(Fault::Kind(format!("`matches` does not take {}", other.kind()))),
            },
            Node::Fold(fold, of, variable, body) => self.fold(*fold, of, variable, body),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, Fault> {
        let here = self.variables.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value);
        here.or_else(|| self.bindings.get(name)).cloned().ok_or_else(|| Fault::Missing(name.to_owned()))
    }

    fn bool(&mut self, node: &'e Node) -> Result<bool, Fault> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(Fault::Kind(format!("{} stands where a bool is wanted", other.kind()))),
        }
    }

    fn members(&mut self, node: &'e Node) -> Result<Arc<std::collections::BTreeMap<String, Value>>, Fault> {
        match self.value(node)? {
            Value::Map(members) => Ok(members),
            other => Err(Fault::Kind(format!("{} has no members", other.kind()))),
        }
    }

    fn map(&mut self, pairs: &'e [(Node, Node)]) -> Result<Value, Fault> {
        let mut members = std::collections::BTreeMap::new();
        for (name, value) in pairs {
            let Value::Text(name) = self.value(name)? else {
                return Err(Fault::Kind("the names of a map are texts".to_owned()));
            };
            let value = self.value(value)?;
            if members.insert(name.to_string(), value).is_some() {
                return Err(Fault::Kind(format!("`{name}` is in the map twice")));
            }
        }
        Ok(Value::Map(Arc::new(members)))
    }

    fn fold(&mut self, fold: Fold, of: &'e Node, variable: &'e str, body: &'e Node) -> Result<Value, Fault> {
        let items = match self.value(of)? {
            Value::List(items) => items,
            Value::Map(members) => Arc::new(members.keys().map(Value::text).collect()),
            other => return Err(Fault::Kind(format!("{} has no elements", other.kind()))),
        };
        let mut kept = Vec::new();
        for item in items.iter() {
            self.variables.push((variable, item.clone()));
            let result = if fold == Fold::Map { self.value(body) } else { self.bool(body).map(Value::Bool) };
            self.variables.pop();
            match (fold, result?) {
                (Fold::All, Value::Bool(false)) => return Ok(Value::Bool(false)),
                (Fold::Exists, Value::Bool(true)) => return Ok(Value::Bool(true)),
                (Fold::ExistsOne | Fold::Filter, Value::Bool(true)) => kept.push(item.clone()),
                (Fold::Map, value) => kept.push(value),
                _ => {}
            }
        }
        Ok(match fold {
            Fold::All => Value::Bool(true),
            Fold::Exists => Value::Bool(false),
            Fold::ExistsOne => Value::Bool(kept.len() == 1),
            Fold::Filter | Fold::Map => Value::list(kept),
        })
    }
}

const OVERFLOW: Fault = Fault::Arithmetic("arithmetic left its range");

fn element(of: &Value, index: &Value) -> Result<Value, Fault> {
    match (of, index) {
        (Value::List(items), Value::Int(index)) => {
            let found = usize::try_from(*index).ok().and_then(|index| items.get(index));
            found.cloned().ok_or_else(|| Fault::Missing(format!("[{index}]")))
        }
        (Value::Map(members), Value::Text(name)) => {
            members.get(&**name).cloned().ok_or_else(|| Fault::Missing(name.chars().take(64).collect()))
        }
        _ => Err(Fault::Kind(format!("{} is not indexed by {}", of.kind(), index.kind()))),
    }
}

fn binary(operator: Operator, a: &Value, b: &Value) -> Result<Value, Fault> {
    use Operator::*;
    let wrong = || Fault::Kind(format!("`{}` does not take {} and {}", operator.sign(), a.kind(), b.kind()));
    let ordered =
        |holds: fn(Ordering) -> bool| a.compare(b).map(|order| Value::Bool(holds(order))).ok_or_else(wrong);
    match operator {
        Equal => a.equals(b).map(Value::Bool).ok_or_else(wrong),
        Different => a.equals(b).map(|equal| Value::Bool(!equal)).ok_or_else(wrong),
        Less => ordered(Ordering::is_lt),
        AtMost => ordered(Ordering::is_le),
        More => ordered(Ordering::is_gt),
        AtLeast => ordered(Ordering::is_ge),
        In => match (a, b) {
            (_, Value::List(items)) => {
                let mut found = false;
                for item in items.iter() {
                    found |= a.equals(item).ok_or_else(wrong)?;
                }
                Ok(Value::Bool(found))
            }
            (Value::Text(name), Value::Map(members)) => Ok(Value::Bool(members.contains_key(&**name))),
            _ => Err(wrong()),
        },
        Plus | Minus | Times | Over | Modulo => arithmetic(operator, a, b).unwrap_or_else(|| Err(wrong())),
    }
}

/// Nothing when the operands are of kinds that the operator does not take.
fn arithmetic(operator: Operator, a: &Value, b: &Value) -> Option<Result<Value, Fault>> {
    use Operator::*;
    let checked = |value: Option<Value>| Some(value.ok_or(OVERFLOW));
    match (operator, a, b) {
        (Over | Modulo, Value::Int(_), Value::Int(0)) => Some(Err(Fault::Arithmetic("division by zero"))),
        (Over | Modulo, Value::Uint(_), Value::Uint(0)) => Some(Err(Fault::Arithmetic("division by zero"))),
        (_, Value::Uint(a), Value::Uint(b)) => {
            let value = match operator {
                Plus => a.checked_add(*b),
                Minus => a.checked_sub(*b),
                Times => a.checked_mul(*b),
                Over => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            checked(value.map(Value::Uint))
        }
        (Plus, Value::Int(a), Value::Int(b)) => checked(a.checked_add(*b).map(Value::Int)),
        (Minus, Value::Int(a), Value::Int(b)) => checked(a.checked_sub(*b).map(Value::Int)),
        (Times, Value::Int(a), Value::Int(b)) => checked(a.checked_mul(*b).map(Value::Int)),
        (Over, Value::Int(a), Value::Int(b)) => checked(a.checked_div(*b).map(Value::Int)),
        (Modulo, Value::Int(a), Value::Int(b)) => checked(a.checked_rem(*b).map(Value::Int)),
        (_, Value::Double(a), Value::Double(b)) => {
            let value = match operator {
                Plus => a + b,
                Minus => a - b,
                Times => a * b,
                Over => a / b,
                _ => return None,
            };
            checked(value.is_finite().then_some(Value::Double(value)))
        }
        (Plus, Value::Text(a), Value::Text(b)) => Some(Ok(Value::text(format!("{a}{b}")))),
        (Plus, Value::List(a), Value::List(b)) => Some(Ok(Value::list(a.iter().chain(b.iter()).cloned()))),
        (Plus, Value::Time(a), Value::Duration(b)) | (Plus, Value::Duration(b), Value::Time(a)) => {
            checked(a.checked_add(*b).ok().map(Value::Time))
        }
        (Minus, Value::Time(a), Value::Duration(b)) => checked(a.checked_sub(*b).ok().map(Value::Time)),
        (Minus, Value::Time(a), Value::Time(b)) => Some(Ok(Value::Duration(a.duration_since(*b)))),
        (Plus, Value::Duration(a), Value::Duration(b)) => checked(a.checked_add(*b).map(Value::Duration)),
        (Minus, Value::Duration(a), Value::Duration(b)) => checked(a.checked_sub(*b).map(Value::Duration)),
        _ => None,
    }
}
