//! `GET /v1/marks/categories`: what a mark may say on this site, and how it is called in each language.
//!
//! The list is configuration. Recorders may name others, which are taken as they are; whatever people choose is one of these.

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use super::problem::Problem;
use super::viewer::{Find, Viewer};

/// A category of marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Category {
    /// As recorders and the API name it.
    pub name: String,
    /// What people call it, by language.
    pub names: Names,
    /// What belongs to it before the moment of the mark, seconds.
    pub before_s: u16,
    /// And after it, seconds.
    pub after_s: u16,
    /// Days for which its footage is kept after the mark arrived; 0 for no longer than other footage.
    pub days: u32,
    /// Whether somebody has to look at once.
    pub urgent: bool,
}

/// What people call a category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Names {
    /// Kazakh.
    pub kk: String,
    /// Russian.
    pub ru: String,
    /// English.
    pub en: String,
}

/// The categories of a site.
#[derive(Debug, Default)]
pub(super) struct Categories(pub(super) Vec<Category>);

impl Categories {
    /// The category with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Category> {
        self.0.iter().find(|category| category.name == name)
    }

    /// Whether somebody has to look at once; nobody at what the site does not know.
    pub(super) fn is_urgent(&self, name: &str) -> bool {
        self.named(name).is_some_and(|category| category.urgent)
    }
}

/// The categories of a site.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CategoryList {
    /// In the order in which they are shown.
    categories: Vec<Category>,
}

/// What a mark may say.
#[utoipa::path(get, operation_id = "list_mark_categories", path = "/v1/marks/categories", tag = "marks",
    responses((status = 200, body = CategoryList, example = json!({ "categories": [{ "name": "insult",
        "names": { "kk": "Билік өкілін қорлау", "ru": "Оскорбление представителя власти", "en": "Insult of an official" },
        "before_s": 300, "after_s": 600, "days": 1095, "urgent": false }] })),
        (status = "default", response = Problem)),
    security(("token" = [])))]
pub(super) async fn list(viewer: Viewer, Shared(state): Shared<State>) -> Result<Json<CategoryList>, Problem> {
    viewer.over::<Find>().await?;
    Ok(Json(CategoryList { categories: state.categories.0.clone() }))
}
