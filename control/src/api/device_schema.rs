//! The body of a request for a new device in the OpenAPI document: made of the keys that the reader of devices takes, so that it has
//! no other.

use serde_json::Value;
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{OpenApi, RefOr};

/// What the body is called there.
const BODY: &str = "DeviceBody";
/// What values are called there while nothing is known of the keys.
const VALUE: &str = "DeviceValue";

/// A key of a device, for who reads the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// Its name.
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// What it takes.
    pub kind: KeyKind,
    /// A device without it has this; none if that depends on something, or there is nothing then.
    pub default: Option<String>,
    /// Every device has it.
    pub is_required: bool,
}

/// What a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A whole number, or its digits as text.
    Number {
        /// The least.
        least: u64,
        /// The greatest, where the type of the number tells.
        greatest: Option<u64>,
    },
    /// One of these words.
    Word(Vec<String>),
    /// Text; a number or a list of numbers stands for the same, written as text.
    Text,
}

/// Describes a device by its `keys` in `document`.
pub(super) fn describe(document: &mut OpenApi, keys: &[DeviceKey]) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let mut body = ObjectBuilder::new()
        .description(Some(
            "A new device: the keys of a `[[device]]` table of the configuration, see pollux.toml(5). Its defaults do not count.",
        ))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    for key in keys {
        body = body.property(&key.name, key.schema());
        if key.is_required {
            body = body.required(&key.name);
        }
    }
    schemas.remove(VALUE);
    schemas.insert(BODY.into(), RefOr::T(Schema::Object(body.build())));
}

impl DeviceKey {
    fn schema(&self) -> Schema {
        let described = || {
            ObjectBuilder::new()
                .description(Some(&self.meaning))
                .default(self.default_value())
        };
        let schema = match &self.kind {
            KeyKind::Number { least, greatest } => described()
                .schema_type(SchemaType::Array(vec![Type::Integer, Type::String]))
                .pattern(Some(r"^\+?[0-9]+$"))
                .minimum(Some(*least))
                .maximum(*greatest),
            KeyKind::Word(words) => described()
                .schema_type(Type::String)
                .enum_values(Some(words.clone())),
            KeyKind::Text if self.is_required => described().schema_type(Type::String),
            KeyKind::Text => {
                let number = || {
                    ObjectBuilder::new()
                        .schema_type(Type::Integer)
                        .minimum(Some(0))
                };
                let several = AnyOfBuilder::new()
                    .item(ObjectBuilder::new().schema_type(Type::String))
                    .item(number())
                    .item(ArrayBuilder::new().items(number()))
                    .description(Some(&self.meaning))
                    .default(self.default_value());
                return several.build().into();
            }
        };
        schema.build().into()
    }

    /// Says what is wrong with a list as the value of the key `name`, which is one of `keys`.
    pub(super) fn check_list(keys: &[Self], name: &str) -> Result<(), String> {
        let mut keys = keys.iter();
        match keys.find(|key| key.name == name).map(|key| &key.kind) {
            Some(KeyKind::Number { .. }) => Err(format!("{name}: a list; write one number")),
            _ => Ok(()),
        }
    }

    fn default_value(&self) -> Option<Value> {
        let word = self.default.as_ref()?;
        let number = match self.kind {
            KeyKind::Number { .. } => word.parse::<u64>().ok(),
            KeyKind::Word(_) | KeyKind::Text => None,
        };
        Some(number.map_or_else(|| Value::from(word.as_str()), Value::from))
    }
}
