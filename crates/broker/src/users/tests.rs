use millstream_env::Env;

use super::*;

fn users(env: &Env) -> Users {
    Users::open(env).unwrap()
}

fn may(users: &Users, name: &str, action: Action, what: &Resource) -> bool {
    users.check(&Principal::user(name), action, what) == Decision::Allow
}

fn queue(name: &str) -> Resource {
    Resource::Queue(Namespace::DEFAULT, name.to_owned())
}

#[tokio::test]
async fn there_is_guest_until_somebody_removes_it() {
    let (env, ..) = Env::sim(1);
    let all = users(&env);
    assert!(all.log_in("guest", "guest").await && !all.log_in("guest", "x").await);
    assert!(may(&all, "guest", Action::Configure, &queue("q")));
    all.delete("guest").await.unwrap();
    assert!(!all.log_in("guest", "guest").await && !may(&all, "guest", Action::Read, &queue("q")));
    assert!(!users(&env).log_in("guest", "guest").await);
}

#[tokio::test]
async fn a_user_logs_in_with_its_password_alone_also_after_it_changed_and_after_a_restart() {
    let (env, ..) = Env::sim(2);
    let all = users(&env);
    all.add("ann", "first", vec!["monitoring".to_owned()]).await.unwrap();
    // Twice: the second time it is known by its digest.
    for _ in 0..2 {
        assert!(all.log_in("ann", "first").await && !all.log_in("ann", "second").await);
    }
    all.set_password("ann", "second").await.unwrap();
    assert!(all.log_in("ann", "second").await && !all.log_in("ann", "first").await);
    let again = users(&env);
    assert!(!again.log_in("ann", "first").await && again.log_in("ann", "second").await);
    assert_eq!(again.list().iter().map(|u| &*u.name).collect::<Vec<_>>(), ["ann", "guest"]);
    // The first user's password is hashed once it is another.
    again.set_password("guest", "secret").await.unwrap();
    assert!(users(&env).log_in("guest", "secret").await && !users(&env).log_in("guest", "guest").await);
}

#[tokio::test]
async fn patterns_say_what_a_user_may_and_without_any_it_may_not_enter() {
    let (env, ..) = Env::sim(3);
    let all = users(&env);
    all.add("ann", "a", Vec::new()).await.unwrap();
    let ann = Principal::user("ann");
    assert!(!all.may_enter(&ann, Namespace::DEFAULT) && !may(&all, "ann", Action::Describe, &queue("q")));
    let rights = Permissions {
        configure: String::new(),
        write: "^amq\\.default$".to_owned(),
        read: "^jobs-".to_owned(),
    };
    all.permit("ann", "/", Some(rights)).await.unwrap();
    assert!(all.may_enter(&ann, Namespace::DEFAULT) && !all.may_impersonate(&ann));
    let exchange = |name: &str| Resource::Exchange(Namespace::DEFAULT, name.to_owned());
    assert!(
        may(&all, "ann", Action::Read, &queue("jobs-1")) && !may(&all, "ann", Action::Read, &queue("mail"))
    );
    assert!(
        may(&all, "ann", Action::Write, &exchange("")) && !may(&all, "ann", Action::Write, &exchange("x"))
    );
    assert!(!may(&all, "ann", Action::Configure, &queue("jobs-1")));
    all.permit("ann", "/", None).await.unwrap();
    assert!(!all.may_enter(&ann, Namespace::DEFAULT));
}

#[tokio::test]
async fn the_broker_itself_and_who_was_not_asked_are_no_users_whatever_users_are_called() {
    let (env, ..) = Env::sim(4);
    let all = users(&env);
    all.add("anonymous", "a", Vec::new()).await.unwrap();
    assert!(!may(&all, "anonymous", Action::Read, &queue("q")));
    assert_eq!(all.check(&Principal::anonymous(), Action::Read, &queue("q")), Decision::Allow);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let (env, ..) = Env::sim(5);
    let all = users(&env);
    let tag = |t: &str| vec![t.to_owned()];
    assert!(matches!(all.add("guest", "x", Vec::new()).await, Err(UserError::Exists(_))));
    assert!(matches!(all.add("", "x", Vec::new()).await, Err(UserError::Invalid { .. })));
    assert!(matches!(all.add("a", "", Vec::new()).await, Err(UserError::Invalid { .. })));
    assert!(matches!(all.add("a", "x", tag("b,c")).await, Err(UserError::Invalid { .. })));
    assert!(matches!(all.delete("a").await, Err(UserError::NotFound(_))));
    assert!(matches!(all.set_password("a", "x").await, Err(UserError::NotFound(_))));
    let bad = Permissions { read: "(".to_owned(), ..Permissions::default() };
    assert!(matches!(all.permit("guest", "/", Some(bad)).await, Err(UserError::Invalid { .. })));
    assert!(matches!(all.permit("guest", "other", None).await, Err(UserError::Invalid { .. })));
    assert!(matches!(all.permit("a", "/", None).await, Err(UserError::NotFound(_))));
    assert_eq!(all.list().len(), 1);
}
