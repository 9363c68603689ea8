//! The permissions that `docs/grip-channels.md` names, each proven on the emulator with IAM enforced: with all of them the
//! store does everything in its table and nothing in another, and without one of them an operation fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use grip::channels::{DynamoStore, History, Member, Position, Presence, Revocations, StoreError};
use http::Request;
use postern_local::{Emulator, EmulatorOptions, Project};
use postern_pushpin::serve;

use super::links::{failure, forward};
use super::table::{self, TABLE};

/// A table that no user may touch.
const OTHER: &str = "channels-of-others";

const PERMISSIONS: [&str; 6] = [
    "dynamodb:PutItem",
    "dynamodb:GetItem",
    "dynamodb:BatchGetItem",
    "dynamodb:UpdateItem",
    "dynamodb:DeleteItem",
    "dynamodb:Query",
];

struct Account {
    emulator: Emulator,
}

impl Account {
    async fn start(name: &str) -> Self {
        let project = Project::here().unwrap();
        let folder = project.fresh_folder(name).unwrap();
        let emulator = Emulator::start(&project, &folder, EmulatorOptions::default()).await.unwrap();
        let root = Client::new(&emulator.sdk_config());
        table::create(&root).await;
        table::create_as(&root, OTHER).await;
        Self { emulator }
    }

    /// A client that has all permissions but one for the table of the channels.
    async fn user(&self, name: &str, without: &str) -> Client {
        let actions: Vec<_> = PERMISSIONS.into_iter().filter(|action| *action != without).collect();
        let resource = format!("arn:aws:dynamodb:*:*:table/{TABLE}");
        Client::new(&self.emulator.user(name, &actions, &resource).await.unwrap())
    }

    fn root(&self, table: &str) -> DynamoStore {
        DynamoStore::new(Client::new(&self.emulator.sdk_config()), table)
    }
}

/// Does everything that a store does, one operation after the other, and returns the result of each.
async fn everything(store: &DynamoStore) -> Vec<(&'static str, Result<(), StoreError>)> {
    let until = SystemTime::now() + Duration::from_mins(5);
    let ann = Member { id: "ann".to_owned(), subject: None, info: None };
    let second = Position::new(1, 2);
    vec![
        ("append", store.append("room", "1").await.map(drop)),
        ("settle", store.settle("room", second).await),
        ("position", store.position("room").await.map(drop)),
        ("after", store.after("room", Position::START, 10).await.map(drop)),
        ("recent", store.recent("room", 10).await.map(drop)),
        ("enter", store.enter("room", &ann, until).await.map(drop)),
        ("renew", store.renew("room", "ann", until).await.map(drop)),
        ("members", store.members("room").await.map(drop)),
        ("leave", store.leave("room", "ann").await.map(drop)),
        ("evict", store.evict("room", "ann", until).await.map(drop)),
        ("revoke", store.revoke("id", until).await),
        ("is_revoked", store.is_revoked(&["id".to_owned()]).await.map(drop)),
    ]
}

#[tokio::test]
async fn the_permissions_suffice_for_the_table_of_the_channels_and_allow_nothing_in_another() {
    let account = Account::start("grip-permissions").await;
    let client = account.user("chat", "nothing").await;

    for (operation, result) in everything(&DynamoStore::new(client.clone(), TABLE)).await {
        assert!(result.is_ok(), "{operation}: {result:?}");
    }
    for (operation, result) in everything(&DynamoStore::new(client, OTHER)).await {
        let refused = result.expect_err(operation).to_string();
        assert!(refused.contains("not authorized"), "{operation}: {refused}");
    }
    assert_eq!(account.root(OTHER).position("room").await.unwrap(), Position::START, "nothing was written");
}

#[tokio::test]
async fn without_one_of_the_permissions_its_operations_are_refused_at_once() {
    let account = Account::start("grip-permission-each").await;
    // An item for those that may not write one.
    account.root(TABLE).append("room", "0").await.unwrap();

    for (without, expected) in [
        ("dynamodb:PutItem", &["append", "enter", "revoke"][..]),
        ("dynamodb:UpdateItem", &["settle", "renew"]),
        ("dynamodb:DeleteItem", &["leave", "evict"]),
        ("dynamodb:BatchGetItem", &["is_revoked"]),
        ("dynamodb:Query", &["append", "position", "after", "recent", "members"]),
    ] {
        let name = format!("no-{}", without.replace(':', "-"));
        let store = DynamoStore::new(account.user(&name, without).await, TABLE);
        let start = std::time::Instant::now();
        let results = everything(&store).await;

        let refused: Vec<_> =
            results.iter().filter(|(_, result)| result.is_err()).map(|(name, _)| *name).collect();
        assert_eq!(refused, expected, "{without}: {results:?}");
        // An append tries for ten seconds where trying again may help.
        assert!(start.elapsed() < Duration::from_secs(9), "{without}: a refusal was tried again");
        for (operation, result) in results.into_iter().filter(|(_, result)| result.is_err()) {
            let refusal = result.unwrap_err().to_string();
            assert!(refusal.contains(without), "{operation}: {refusal}");
        }
    }
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_looked_up_before_the_item_is_written_elsewhere() {
    let account = Account::start("grip-permission-get").await;
    let address = account.emulator.endpoint().strip_prefix("http://").unwrap().parse().unwrap();

    // The SDK tries a read three times, so the first look-up fails with five failures, and the second succeeds.
    for (without, failing_reads) in [("nothing", 0), ("nothing", 5), ("dynamodb:GetItem", 0)] {
        let name = format!("unknown-{}-{failing_reads}", without.replace(':', "-"));
        let config = account.user(&name, without).await.config().clone();
        let unlucky = unlucky(address, failing_reads).await;
        let config = config.to_builder().endpoint_url(format!("http://{}", unlucky.address())).build();

        let appended = DynamoStore::new(Client::from_conf(config), TABLE).append(&name, "1").await;
        assert_eq!(account.root(TABLE).recent(&name, 10).await.unwrap().len(), 1, "{name}");
        match without {
            "nothing" => assert_eq!(appended.unwrap().position.offset(), 1, "{name}"),
            _ => assert!(
                appended.unwrap_err().to_string().contains(without),
                "the refusal names the permission"
            ),
        }
    }
}

/// A DynamoDB that does the first write and answers that it failed, and that fails this many reads of an item.
async fn unlucky(dynamodb: SocketAddr, failing_reads: usize) -> postern_pushpin::Server {
    let has_failed = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicUsize::new(0));
    let server = serve(move |request: Request<Vec<u8>>| {
        let (has_failed, reads) = (Arc::clone(&has_failed), Arc::clone(&reads));
        async move {
            let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
            let operation =
                target.and_then(|target| target.split('.').next_back()).unwrap_or_default().to_owned();
            let answer = forward(dynamodb, request).await;
            let fails = match operation.as_str() {
                "PutItem" => !has_failed.swap(true, Ordering::SeqCst),
                "GetItem" => reads.fetch_add(1, Ordering::SeqCst) < failing_reads,
                _ => false,
            };
            if fails { failure(500, "InternalServerError") } else { answer }
        }
    });
    server.await.unwrap()
}
