//! The grammar, by recursive descent.

use super::{
    MAX_DEPTH,
    functions::Function,
    pattern::Pattern,
    token::{Token, place},
    value::Value,
};
use crate::policy::glob::Glob;

/// Deepest tree: brackets and chains of operators add up.
const MAX_HEIGHT: usize = 2 * MAX_DEPTH;

/// An expression as a tree, at most [`MAX_HEIGHT`] deep.
#[derive(Debug)]
pub enum Node {
    /// A literal.
    Literal(Value),
    /// `name`
    Name(String),
    /// `of.name`
    Member(Box<Node>, String),
    /// `has(of.name)`
    Has(Box<Node>, String),
    /// `of[index]`
    Index(Box<Node>, Box<Node>),
    /// `[a, b]`
    List(Vec<Node>),
    /// `{'a': b}`
    Map(Vec<(Node, Node)>),
    /// `!a`
    Not(Box<Node>),
    /// `-a`
    Negative(Box<Node>),
    /// `a && b && c`
    All(Vec<Node>),
    /// `a || b || c`
    Any(Vec<Node>),
    /// `a + b`
    Binary(Operator, Box<Node>, Box<Node>),
    /// `a ? b : c`
    Choice(Box<[Node; 3]>),
    /// `f(a, b)`, `a.f(b)`
    Call(Function, Vec<Node>),
    /// `glob(text, 'pattern')`: the pattern is compiled once.
    Glob(Box<Node>, Glob),
    /// `text.matches('pattern')`: as above.
    Matches(Box<Node>, Pattern),
    /// `list.exists(x, …)`
    Fold(Fold, Box<Node>, String, Box<Node>),
}

/// What is between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    Different,
    Less,
    AtMost,
    More,
    AtLeast,
    In,
    Plus,
    Minus,
    Times,
    Over,
    Modulo,
}

/// What is done with each element of a list, or each name of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Node {
    /// Whether `name` is read anywhere.
    pub fn names(&self, name: &str) -> bool {
        matches!(self, Self::Name(found) if found == name) || self.children().any(|child| child.names(name))
    }

    /// Whether a member of that name is read of anything.
    pub fn reads(&self, member: &str) -> bool {
        let own = match self {
            Self::Member(_, name) | Self::Has(_, name) => name == member,
            Self::Literal(Value::Text(text)) => **text == *member,
            _ => false,
        };
        own || self.children().any(|child| child.reads(member))
    }

    /// Whether anything stands deeper than [`MAX_HEIGHT`]. Without recursion: that is what this is to allow.
    fn is_too_high(&self) -> bool {
        let mut open = vec![(self, 1)];
        while let Some((node, height)) = open.pop() {
            if height > MAX_HEIGHT {
                return true;
            }
            open.extend(node.children().map(|child| (child, height + 1)));
        }
        false
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match self {
            Self::Literal(_) | Self::Name(_) => Box::new(std::iter::empty()),
            Self::Member(of, _)
            | Self::Has(of, _)
            | Self::Not(of)
            | Self::Negative(of)
            | Self::Glob(of, _)
            | Self::Matches(of, _) => Box::new(std::iter::once(&**of)),
            Self::Index(a, b) | Self::Binary(_, a, b) | Self::Fold(_, a, _, b) => {
                Box::new([&**a, &**b].into_iter())
            }
            Self::List(items) | Self::All(items) | Self::Any(items) | Self::Call(_, items) => {
                Box::new(items.iter())
            }
            Self::Map(pairs) => Box::new(pairs.iter().flat_map(|(name, value)| [name, value])),
            Self::Choice(three) => Box::new(three.iter()),
        }
    }
}

/// Reads the whole of `tokens`.
pub fn parse(tokens: &[(usize, Token)]) -> Result<Node, String> {
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let node = parser.choice()?;
    match parser.tokens.get(parser.at) {
        Some(_) => Err(parser.complain("the expression should end")),
        None if node.is_too_high() => Err(format!("the expression is nested more than {MAX_HEIGHT} deep")),
        None => Ok(node),
    }
}

struct Parser<'t> {
    tokens: &'t [(usize, Token)],
    at: usize,
    depth: usize,
}

type Parsed = Result<Node, String>;

impl Parser<'_> {
    fn complain(&self, why: impl std::fmt::Display) -> String {
        match self.tokens.get(self.at).or(self.tokens.last()) {
            Some((at, _)) => place(*at, why),
            None => "the expression is empty".to_owned(),
        }
    }

    /// Takes the sign if it is next.
    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.tokens.get(self.at), Some((_, Token::Sign(found))) if *found == sign);
        self.at += usize::from(is);
        is
    }

    /// Takes the first of `signs` that is next.
    fn one_of<T: Copy>(&mut self, signs: &[(&str, T)]) -> Option<T> {
        signs.iter().find(|(sign, _)| self.sign(sign)).map(|(_, meaning)| *meaning)
    }

    fn need(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) { Ok(()) } else { Err(self.complain(format!("`{sign}` is missing"))) }
    }

    fn name(&mut self) -> Option<String> {
        let Some((_, Token::Name(name))) = self.tokens.get(self.at) else { return None };
        self.at += 1;
        Some(name.clone())
    }

    /// Goes one level down; what grows to the left does too.
    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(self.complain(format!("it is nested more than {MAX_DEPTH} deep"))),
            false => Ok(()),
        }
    }

    /// `a ? b : c`
    fn choice(&mut self) -> Parsed {
        self.deeper()?;
        let condition = self.any()?;
        let node = match self.sign("?") {
            false => condition,
            true => {
                let then = self.any()?;
                self.need(":")?;
                Node::Choice(Box::new([condition, then, self.choice()?]))
            }
        };
        self.depth -= 1;
        Ok(node)
    }

    fn any(&mut self) -> Parsed {
        let mut terms = vec![self.all()?];
        while self.sign("||") {
            terms.push(self.all()?);
        }
        Ok(alone(terms, Node::Any))
    }

    fn all(&mut self) -> Parsed {
        let mut terms = vec![self.relation()?];
        while self.sign("&&") {
            terms.push(self.relation()?);
        }
        Ok(alone(terms, Node::All))
    }

    /// One comparison: `a < b < c` means something else to everyone, so that it is refused.
    fn relation(&mut self) -> Parsed {
        use Operator::*;
        const SIGNS: [(&str, Operator); 6] =
            [("==", Equal), ("!=", Different), ("<=", AtMost), (">=", AtLeast), ("<", Less), (">", More)];
        let left = self.sum()?;
        let is_in = matches!(self.tokens.get(self.at), Some((_, Token::Name(name))) if name == "in");
        self.at += usize::from(is_in);
        let operator = if is_in { Some(In) } else { self.one_of(&SIGNS) };
        match operator {
            None => Ok(left),
            Some(operator) => Ok(Node::Binary(operator, Box::new(left), Box::new(self.sum()?))),
        }
    }

    fn sum(&mut self) -> Parsed {
        self.left(&[("+", Operator::Plus), ("-", Operator::Minus)], Self::product)
    }

    fn product(&mut self) -> Parsed {
        let signs = [("*", Operator::Times), ("/", Operator::Over), ("%", Operator::Modulo)];
        self.left(&signs, Self::unary)
    }

    fn left(&mut self, signs: &[(&str, Operator)], next: fn(&mut Self) -> Parsed) -> Parsed {
        let mut node = next(self)?;
        let outer = self.depth;
        while let Some(operator) = self.one_of(signs) {
            self.deeper()?;
            node = Node::Binary(operator, Box::new(node), Box::new(next(self)?));
        }
        self.depth = outer;
        Ok(node)
    }

    fn unary(&mut self) -> Parsed {
        let wrap: fn(Box<Node>) -> Node = if self.sign("!") {
            Node::Not
        } else if self.sign("-") {
            Node::Negative
        } else {
            return self.member();
        };
        self.deeper()?;
        let node = wrap(Box::new(self.unary()?));
        self.depth -= 1;
        Ok(node)
    }

    fn member(&mut self) -> Parsed {
        let mut node = self.primary()?;
        let outer = self.depth;
        loop {
            if self.sign(".") {
                self.deeper()?;
                let name = self.name().ok_or_else(|| self.complain("a name is missing"))?;
                node = match self.sign("(") {
                    true => self.method(node, &name)?,
                    false => Node::Member(Box::new(node), name),
                };
            } else if self.sign("[") {
                self.deeper()?;
                node = Node::Index(Box::new(node), Box::new(self.choice()?));
                self.need("]")?;
            } else {
                self.depth = outer;
                return Ok(node);
            }
        }
    }

    fn method(&mut self, of: Node, name: &str) -> Parsed {
        let fold = match name {
            "all" => Fold::All,
            "exists" => Fold::Exists,
            "exists_one" => Fold::ExistsOne,
            "filter" => Fold::Filter,
            "map" => Fold::Map,
            _ => {
                let mut all = vec![of];
                all.extend(self.arguments(")")?);
                return self.call(name, all);
            }
        };
        let variable =
            self.name().ok_or_else(|| self.complain(format!("`{name}` needs a name for each element")))?;
        self.need(",")?;
        let mut of = of;
        let mut body = self.choice()?;
        if fold == Fold::Map && self.sign(",") {
            of = Node::Fold(Fold::Filter, Box::new(of), variable.clone(), Box::new(body));
            body = self.choice()?;
        }
        self.need(")")?;
        Ok(Node::Fold(fold, Box::new(of), variable, Box::new(body)))
    }

    fn call(&self, name: &str, mut arguments: Vec<Node>) -> Parsed {
        let complain =
            |why: String| place(self.tokens.get(self.at.saturating_sub(1)).map_or(0, |(at, _)| *at), why);
        if let "glob" | "matches" = name {
            let (2, Some(Node::Literal(Value::Text(pattern))), Some(text)) =
                (arguments.len(), arguments.pop(), arguments.pop())
            else {
                return Err(complain(format!("`{name}` takes a text and a literal pattern")));
            };
            let text = Box::new(text);
            return match name {
                "glob" => Glob::new(&pattern).map(|glob| Node::Glob(text, glob)),
                _ => Pattern::new(&pattern).map(|pattern| Node::Matches(text, pattern)),
            }
            .map_err(complain);
        }
        let Some(function) = Function::named(name) else {
            let known = Function::ALL.map(Function::name).join(", ");
            return Err(complain(format!("there is no function `{name}`; known are glob, matches, {known}")));
        };
        if arguments.len() != function.parameters().len() {
            return Err(complain(format!("`{name}` takes {} argument(s)", function.parameters().len())));
        }
        Ok(Node::Call(function, arguments))
    }

    /// What is between commas, up to the closing bracket.
    fn arguments(&mut self, end: &str) -> Result<Vec<Node>, String> {
        let mut items = Vec::new();
        while !self.sign(end) {
            if !items.is_empty() {
                self.need(",")?;
            }
            // A comma may stand behind the last element of a list.
            if end == "]" && !items.is_empty() && self.sign(end) {
                break;
            }
            items.push(self.choice()?);
        }
        Ok(items)
    }

    fn primary(&mut self) -> Parsed {
        if self.sign("(") {
            let node = self.choice()?;
            self.need(")")?;
            return Ok(node);
        }
        if self.sign("[") {
            return self.arguments("]").map(Node::List);
        }
        if self.sign("{") {
            let mut pairs = Vec::new();
            while !self.sign("}") {
                if !pairs.is_empty() {
                    self.need(",")?;
                }
                let name = self.choice()?;
                self.need(":")?;
                pairs.push((name, self.choice()?));
            }
            return Ok(Node::Map(pairs));
        }
        let Some((_, token)) = self.tokens.get(self.at) else {
            return Err(self.complain("something is missing at the end"));
        };
        let literal = match token {
            Token::Int(value) => Value::Int(*value),
            Token::Uint(value) => Value::Uint(*value),
            Token::Double(value) => Value::Double(*value),
            Token::Text(text) => Value::text(text),
            Token::Name(name) => return self.named(name.clone()),
            Token::Sign(sign) => return Err(self.complain(format!("`{sign}` is not expected here"))),
        };
        self.at += 1;
        Ok(Node::Literal(literal))
    }

    fn named(&mut self, name: String) -> Parsed {
        match name.as_str() {
            "true" | "false" => {
                self.at += 1;
                return Ok(Node::Literal(Value::Bool(name == "true")));
            }
            "null" => {
                self.at += 1;
                return Ok(Node::Literal(Value::Null));
            }
            "in" => return Err(self.complain("`in` is not expected here")),
            _ => self.at += 1,
        }
        if !self.sign("(") {
            return Ok(Node::Name(name));
        }
        let mut arguments = self.arguments(")")?;
        if name != "has" {
            return self.call(&name, arguments);
        }
        match (arguments.len(), arguments.pop()) {
            (1, Some(Node::Member(of, member))) => Ok(Node::Has(of, member)),
            _ => Err(self.complain("`has` takes one member, for example `has(build.trigger)`")),
        }
    }
}

/// One term stands for itself.
fn alone(mut terms: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match (terms.len(), terms.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            terms.extend(last);
            several(terms)
        }
    }
}
