//! What can be said of an expression before it is evaluated: every name exists, and no operator gets what it can never take.

use super::{
    bindings::Site,
    parse::{Fold, Node, Operator},
    value::Value,
};

/// The type of a value, as far as it is known beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Type {
    /// Known only when it is there.
    Any,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Time,
    Duration,
    /// A list of these.
    List(&'static Type),
    /// Any name, to these.
    Map(&'static Type),
    /// These names.
    Members(&'static [(&'static str, Type)]),
}

/// Checks an expression that is to be true or false.
pub fn check(root: &Node, site: Site) -> Result<(), String> {
    let mut scope = Scope { site, variables: Vec::new() };
    match scope.infer(root)? {
        Type::Bool | Type::Any => Ok(()),
        other => Err(format!("the expression is {}, not a bool", other.describe())),
    }
}

struct Scope {
    site: Site,
    variables: Vec<(String, Type)>,
}

type Inferred = Result<Type, String>;

impl Type {
    fn describe(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Uint => "a uint",
            Self::Double => "a double",
            Self::Text => "a text",
            Self::Time => "a timestamp",
            Self::Duration => "a duration",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Members(_) => "a map",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether a value of this type may stand where the other is wanted.
    fn fits(self, wanted: Self) -> bool {
        self == Self::Any
            || wanted == Self::Any
            || std::mem::discriminant(&self) == std::mem::discriminant(&wanted)
    }

    /// Whether two values may be compared at all.
    fn compares(self, other: Self) -> bool {
        let map = |t: Self| matches!(t, Self::Map(_) | Self::Members(_));
        self.fits(other) || self.is_number() && other.is_number() || map(self) && map(other)
    }

    fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

impl Scope {
    fn infer(&mut self, node: &Node) -> Inferred {
        match node {
            Node::Literal(value) => Ok(of(value)),
            Node::Name(name) => self.variable(name),
            Node::Member(of, name) => {
                let of = self.infer(of)?;
                member(of, name)
            }
            Node::Has(of, name) => {
                let of = self.infer(of)?;
                member(of, name).map(|_| Type::Bool)
            }
            Node::Index(of, index) => self.index(of, index),
            Node::List(items) => {
                for item in items {
                    self.infer(item)?;
                }
                Ok(Type::List(&Type::Any))
            }
            Node::Map(pairs) => {
                for (name, value) in pairs {
                    self.want(name, Type::Text)?;
                    self.infer(value)?;
                }
                Ok(Type::Map(&Type::Any))
            }
            Node::Not(of) => self.want(of, Type::Bool),
            Node::Negative(of) => match self.infer(of)? {
                number @ (Type::Int | Type::Double | Type::Any) => Ok(number),
                other => Err(format!("`-` does not take {}", other.describe())),
            },
            Node::All(terms) | Node::Any(terms) => {
                for term in terms {
                    self.want(term, Type::Bool)?;
                }
                Ok(Type::Bool)
            }
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.infer(a)?, self.infer(b)?);
                binary(*operator, a, b)
            }
            Node::Choice(three) => {
                let [condition, then, other] = &**three;
                self.want(condition, Type::Bool)?;
                Ok(self.infer(then)?.or(self.infer(other)?))
            }
            Node::Call(function, arguments) => {
                for (argument, wanted) in arguments.iter().zip(function.parameters()) {
                    self.want(argument, *wanted)?;
                }
                Ok(function.gives())
            }
            Node::Glob(text, _) | Node::Matches(text, _) => {
                self.want(text, Type::Text)?;
                Ok(Type::Bool)
            }
            Node::Fold(fold, of, variable, body) => self.fold(*fold, of, variable, body),
        }
    }

    fn want(&mut self, node: &Node, wanted: Type) -> Inferred {
        let found = self.infer(node)?;
        match found.fits(wanted) {
            true => Ok(found),
            false => Err(format!("{} stands where {} is wanted", found.describe(), wanted.describe())),
        }
    }

    fn variable(&self, name: &str) -> Inferred {
        if let Some((_, found)) = self.variables.iter().rev().find(|(known, _)| known == name) {
            return Ok(*found);
        }
        let known = self.site.names();
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, found)) => Ok(*found),
            None => Err(unknown("variable", name, known)),
        }
    }

    fn index(&mut self, of: &Node, index: &Node) -> Inferred {
        let (of, index) = (self.infer(of)?, self.infer(index)?);
        let (item, wanted) = match of {
            Type::List(item) => (*item, Type::Int),
            Type::Map(item) => (*item, Type::Text),
            Type::Members(_) => (Type::Any, Type::Text),
            Type::Any => return Ok(Type::Any),
            other => return Err(format!("{} has no elements", other.describe())),
        };
        match index.fits(wanted) {
            true => Ok(item),
            false => Err(format!("{} is indexed by {}", of.describe(), wanted.describe())),
        }
    }

    fn fold(&mut self, fold: Fold, of: &Node, variable: &str, body: &Node) -> Inferred {
        let of = self.infer(of)?;
        let item = match of {
            Type::List(item) => *item,
            Type::Map(_) | Type::Members(_) => Type::Text,
            Type::Any => Type::Any,
            other => return Err(format!("{} has no elements", other.describe())),
        };
        if self.site.names().iter().any(|(known, _)| *known == variable) {
            return Err(format!("`{variable}` means something already"));
        }
        self.variables.push((variable.to_owned(), item));
        let wanted = if fold == Fold::Map { Type::Any } else { Type::Bool };
        let body = self.want(body, wanted);
        self.variables.pop();
        body?;
        Ok(match (fold, of) {
            (Fold::All | Fold::Exists | Fold::ExistsOne, _) => Type::Bool,
            (Fold::Filter, Type::List(item)) => Type::List(item),
            (Fold::Filter, Type::Map(_) | Type::Members(_)) => Type::List(&Type::Text),
            (Fold::Filter | Fold::Map, _) => Type::List(&Type::Any),
        })
    }
}

fn of(value: &Value) -> Type {
    match value {
        Value::Null => Type::Any,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::Text(_) => Type::Text,
        Value::Time(_) => Type::Time,
        Value::Duration(_) => Type::Duration,
        Value::List(_) => Type::List(&Type::Any),
        Value::Map(_) => Type::Map(&Type::Any),
    }
}

fn member(of: Type, name: &str) -> Inferred {
    match of {
        Type::Any => Ok(Type::Any),
        Type::Map(item) => Ok(*item),
        Type::Members(known) => match known.iter().find(|(known, _)| *known == name) {
            Some((_, found)) => Ok(*found),
            None => Err(unknown("member", name, known)),
        },
        other => Err(format!("{} has no member `{name}`", other.describe())),
    }
}

fn unknown(what: &str, name: &str, known: &[(&'static str, Type)]) -> String {
    let names: Vec<&'static str> = known.iter().map(|(name, _)| *name).collect();
    let meant = crate::policy::closest(name, &names);
    let meant = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    format!("there is no {what} `{name}`, only {}{meant}", names.join(", "))
}

fn binary(operator: Operator, a: Type, b: Type) -> Inferred {
    use Operator::*;
    let complain =
        || Err(format!("`{}` does not take {} and {}", operator.sign(), a.describe(), b.describe()));
    match operator {
        Equal | Different if a.compares(b) => Ok(Type::Bool),
        Less | AtMost | More | AtLeast
            if a.compares(b) && !matches!(a, Type::List(_) | Type::Map(_) | Type::Members(_)) =>
        {
            Ok(Type::Bool)
        }
        In => match b {
            Type::List(item) if a.compares(*item) => Ok(Type::Bool),
            Type::Map(_) | Type::Members(_) if a.fits(Type::Text) => Ok(Type::Bool),
            Type::Any => Ok(Type::Bool),
            _ => complain(),
        },
        Equal | Different | Less | AtMost | More | AtLeast => complain(),
        _ if a == Type::Any || b == Type::Any => Ok(Type::Any),
        Plus | Minus | Times | Over | Modulo => match (operator, a, b) {
            (_, Type::Int, Type::Int) => Ok(Type::Int),
            (_, Type::Uint, Type::Uint) => Ok(Type::Uint),
            (Plus | Minus | Times | Over, Type::Double, Type::Double) => Ok(Type::Double),
            (Plus, Type::Text, Type::Text) => Ok(Type::Text),
            (Plus, Type::List(a), Type::List(b)) => Ok(Type::List(if a == b { a } else { &Type::Any })),
            (Plus | Minus, Type::Time, Type::Duration) | (Plus, Type::Duration, Type::Time) => Ok(Type::Time),
            (Minus, Type::Time, Type::Time) => Ok(Type::Duration),
            (Plus | Minus, Type::Duration, Type::Duration) => Ok(Type::Duration),
            _ => complain(),
        },
    }
}
