//! Users: list, add, delete, passwords, permissions. Passwords come in, and never go out.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use millstream_broker::{Permissions, UserInfo};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Shared};

fn told(u: &UserInfo) -> Value {
    let permissions: BTreeMap<&String, Value> = u
        .permissions
        .iter()
        .map(|(vhost, p)| (vhost, json!({ "configure": p.configure, "write": p.write, "read": p.read })))
        .collect();
    json!({ "name": u.name, "tags": u.tags, "permissions": permissions })
}

/// All users.
pub async fn list(State(health): Shared) -> Result<Json<Value>, ApiError> {
    let users: Vec<Value> = health.broker()?.users().list().iter().map(told).collect();
    Ok(Json(json!({ "users": users })))
}

/// One user.
pub async fn describe(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let all = health.broker()?.users().list();
    let user = all.iter().find(|u| u.name == name);
    user.map(|u| Json(told(u))).ok_or_else(|| ApiError::not_found(format!("there is no user {name:?}")))
}

/// Body of a creation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    name: String,
    password: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// Makes a user, who may do nothing yet.
pub async fn add(State(health): Shared, Json(a): Json<Add>) -> Result<(StatusCode, Json<Value>), ApiError> {
    health.broker()?.users().add(&a.name, &a.password, a.tags.clone()).await?;
    Ok((StatusCode::CREATED, Json(json!({ "name": a.name, "tags": a.tags, "permissions": {} }))))
}

/// Removes a user.
pub async fn delete(State(health): Shared, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    health.broker()?.users().delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Body of a change of password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Password {
    password: String,
}

/// Gives a user another password.
pub async fn password(
    State(health): Shared,
    Path(name): Path<String>,
    Json(p): Json<Password>,
) -> Result<StatusCode, ApiError> {
    health.broker()?.users().set_password(&name, &p.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a user may do in a virtual host.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

/// Says what a user may do.
pub async fn permit(
    State(health): Shared,
    Path(name): Path<String>,
    Json(p): Json<Permit>,
) -> Result<StatusCode, ApiError> {
    let permissions = Permissions { configure: p.configure, write: p.write, read: p.read };
    health.broker()?.users().permit(&name, &p.vhost, Some(permissions)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Where {
    vhost: String,
}

/// Takes a user's permissions away: it may not even enter the virtual host.
pub async fn forbid(
    State(health): Shared,
    Path(name): Path<String>,
    Query(q): Query<Where>,
) -> Result<StatusCode, ApiError> {
    health.broker()?.users().permit(&name, &q.vhost, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
