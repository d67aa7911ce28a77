//! Many questions at once: each gets the answer that it gets alone.

use std::{sync::Arc, time::Duration};

use acceptance::{App, Stage, http::escape};
use catenary_testkit::{
    Statement, Subject,
    oci::{Image, Index, layer},
    world::{BASE_RESOURCE, RESOURCE},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// What a stranger says of images, and indexes that nobody speaks about: more than is read for near misses, and some of it found
/// only by way of another image.
async fn crowd(stage: &Stage) {
    let images: Vec<String> = stage.world.index.images.iter().map(Image::digest).collect();
    let says = |n: usize, about: &[&String]| {
        let subjects = about.iter().map(|digest| Subject::image(RESOURCE, digest)).collect();
        let statement =
            Statement::new("https://acme.test/noise/v1", json!({ "n": n })).with_subjects(subjects);
        statement.signed_by(&stage.world.k_mallory)
    };
    let mut noise: Vec<_> = (0..25).map(|n| says(n, &[&images[0]])).collect();
    noise.extend((25..30).map(|n| says(n, &[&images[0], &images[1]])));
    stage.post_envelopes(&noise).await;
    for n in 0..25 {
        let other = Image::new("linux/s390x", vec![layer(&[("n", format!("{n}").as_bytes())])]);
        let index = Index::new(vec![stage.world.index.images[1].clone(), other]);
        assert_eq!(stage.push_object(&index.document()).await.status, 201);
    }
}

fn questions(stage: &Stage, environments: usize) -> Vec<Value> {
    let mut images = vec![stage.world.image()];
    images.extend(stage.world.index.images.iter().map(|image| stage.world.image_of(&image.digest())));
    images.push(format!("{BASE_RESOURCE}@{}", stage.world.base.digest()));
    images.push(format!("{RESOURCE}@sha256:{}", "1".repeat(64)));
    images.push(format!("registry.elsewhere.test/app@{}", stage.world.index.digest()));
    let mut all = Vec::new();
    for image in &images {
        for environment in ["prod", "dev"] {
            all.push(json!({ "image": image, "environment": environment }));
        }
        for n in 2..environments {
            all.push(json!({ "image": image, "environment": format!("e{n}") }));
        }
        all.push(json!({ "image": image }));
        all.push(json!({ "image": image, "platform": "linux/amd64" }));
        all.push(json!({ "image": image, "context": { "ticket": "ACME-1" } }));
    }
    all
}

async fn alone(stage: &Stage, question: &Value, when: &str) -> Value {
    let mut path = format!("/v1/verdict?image={}{when}", escape(question["image"].as_str().unwrap()));
    for name in ["environment", "platform"] {
        if let Some(value) = question[name].as_str() {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    if let Some(ticket) = question["context"]["ticket"].as_str() {
        path.push_str(&format!("&ctx.ticket={ticket}"));
    }
    stage.get(&path).await.is(200).0
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_answered_together_get_the_answers_that_they_get_alone() {
    let stage = Stage::empty().await.play_honest().await;
    crowd(&stage).await;
    let size = stage.judge().await.header("catenary-log-size");
    let as_of = "2030-01-01T00:00:00Z";
    // More than one group, and each with images of its own: of what one found out the next must not know too much.
    let questions = questions(&stage, 47);
    let body = json!({ "questions": questions, "asOf": as_of, "knownAt": size });
    let together = stage.post("/v1/verdicts", &body).await.is(200).list("verdicts");
    assert_eq!(together.len(), questions.len());
    let when = format!("&asOf={}&knownAt={size}", escape(as_of));
    let mut outcomes = Vec::new();
    for (question, together) in questions.iter().zip(&together) {
        assert_eq!(*together, alone(&stage, question, &when).await, "{question}");
        outcomes.push(together["outcome"].as_str().unwrap());
    }
    // Yes and no were among them, and a stranger's crowd.
    assert!(outcomes.contains(&"PASSED") && outcomes.contains(&"FAILED"), "{outcomes:?}");
    assert!(
        together.iter().any(|verdict| verdict["nearMisses"].as_array().is_some_and(|all| !all.is_empty()))
    );
    // Those of now come from the cache the second time, and are the same.
    let now = json!({ "questions": questions });
    let first = stage.post("/v1/verdicts", &now).await.is(200).list("verdicts");
    let second = stage.post("/v1/verdicts", &now).await.is(200).list("verdicts");
    assert_eq!(first[0], second[0]);
    assert_eq!(first[0]["id"], stage.judge().await.is(200).0["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_asked_at_the_same_time_get_the_answers_that_they_get_alone() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    crowd(&stage).await;
    let stage = Arc::new(stage);
    // Each is asked by two at once.
    let asked: Vec<Value> = questions(&stage, 12).into_iter().flat_map(|one| [one.clone(), one]).collect();
    let mut crowd = JoinSet::new();
    for question in asked {
        let stage = stage.clone();
        crowd.spawn(async move { (alone(&stage, &question, "").await, question) });
    }
    for (answer, question) in crowd.join_all().await {
        let text = |pointer: &str| answer.pointer(pointer).unwrap_or_else(|| panic!("{answer}")).to_string();
        let as_of = text("/asOf").replace('"', "");
        let then = format!("&asOf={}&knownAt={}", escape(&as_of), text("/log/size"));
        let mut again = alone(&stage, &question, &then).await;
        // When it was computed and the digest over that are its own.
        for own in ["evaluatedAt", "id"] {
            again[own] = answer[own].clone();
        }
        assert_eq!(answer, again, "{question}");
    }
    assert!(app.metric("catenary_verdict_shared_total").await.is_some(), "nobody shared anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_questions_waits_for_its_evidence() {
    let stage = Stage::empty().await;
    let asked = json!({ "questions": [{ "image": stage.world.image(), "environment": "prod" }] });
    let waiting = {
        let (client, asked) = (stage.admin.clone(), asked.clone());
        tokio::spawn(async move { client.post("/v1/verdicts?wait=20s", &asked).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage.post_world().await;
    let answer = waiting.await.unwrap().is(200);
    assert_eq!(answer.list("verdicts")[0]["outcome"], "PASSED", "{}", answer.0);
    let ahead = stage.post("/v1/verdicts?minIndex=900000", &asked).await;
    assert_eq!(ahead.status, 503, "{}", ahead.show());
}
