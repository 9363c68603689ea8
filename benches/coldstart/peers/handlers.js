// The handlers in Node. Each imports its own client, so that no function pays for another's.
"use strict";
const { createCipheriv, createHash, randomBytes } = require("node:crypto");

async function dispatcher() {
  const { IoTDataPlaneClient, PublishCommand } = require("@aws-sdk/client-iot-data-plane");
  const iot = new IoTDataPlaneClient();
  return async (event) => {
    const JobId = createHash("sha256").update(event.TaskToken).digest("hex").slice(0, 32);
    const Topic = "tenant1/to/worker";
    const payload = Buffer.from(JSON.stringify({ ...event, JobId }));
    await iot.send(
      new PublishCommand({
        topic: Topic,
        qos: 1,
        payload,
        contentType: "application/json",
        payloadFormatIndicator: "UTF8_DATA",
        correlationData: Buffer.from(JobId).toString("base64"),
      }),
    );
    return { JobId, Topic, Bytes: payload.length };
  };
}

async function task_token_done() {
  const { SFNClient, SendTaskSuccessCommand } = require("@aws-sdk/client-sfn");
  const states = new SFNClient();
  return async ({ TaskToken, result }) => {
    await states.send(
      new SendTaskSuccessCommand({ taskToken: TaskToken, output: JSON.stringify({ result }) }),
    );
    return null;
  };
}

async function msk_to_s3() {
  const { PutObjectCommand, S3Client } = require("@aws-sdk/client-s3");
  const s3 = new S3Client({ forcePathStyle: true });
  return async (event) => {
    for (const [partition, records] of Object.entries(event.records)) {
      const lines = records.map(({ value }) => Buffer.from(value, "base64").toString());
      const Key = `customer-data-${partition}-${records[0].offset}-${records.at(-1).offset}.csv`;
      const Body = lines.join("\n") + "\n";
      await s3.send(new PutObjectCommand({ Bucket: "bench", Key, Body, IfNoneMatch: "*" }));
    }
    return { batchItemFailures: [] };
  };
}

async function step_counter() {
  return async (event) => {
    event.Input.step += 1;
    return event;
  };
}

async function grip_echo() {
  const faasGrip = require("faas-grip");
  return async (event) => {
    const socket = faasGrip.lambdaGetWebSocket(event);
    if (socket.isOpening()) socket.accept();
    while (socket.canRecv()) {
      const message = socket.recvRaw();
      if (message === null) {
        socket.close();
        break;
      }
      socket.send(message);
    }
    return socket.toResponse();
  };
}

async function approval() {
  const { GetSecretValueCommand, SecretsManagerClient } = require("@aws-sdk/client-secrets-manager");
  const secrets = new SecretsManagerClient();
  const { SecretString } = await secrets.send(new GetSecretValueCommand({ SecretId: "approval" }));
  const key = createHash("sha256").update(SecretString).digest();

  function link(event, Decision) {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    const sealed = [nonce, cipher.update(JSON.stringify({ ...event, Decision })), cipher.final()];
    return `${event.Page}?ask=${Buffer.concat([...sealed, cipher.getAuthTag()]).toString("base64url")}`;
  }
  return async (event) => ({ Approve: link(event, "approve"), Reject: link(event, "reject") });
}

module.exports = { dispatcher, task_token_done, msk_to_s3, step_counter, grip_echo, approval };
