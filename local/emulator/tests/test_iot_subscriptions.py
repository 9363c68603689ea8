"""IoT Core: sessions and shared subscriptions."""

from __future__ import annotations

from tests.harness import launcher, unique, until
from tests.mqtt import SUBACK, Iot, Mqtt


def setUpModule() -> None:
    launcher.start()


class IotSessions(Iot):
    def test_resumed_and_repeated_subscription_deliver_once(self) -> None:
        for version in (4, 5):
            with self.subTest(version=version):
                client_id, topic = unique("c"), unique("topic")
                for connection in range(4):  # the first, and three reconnections
                    client = self.connect(version, client_id, session=True)
                    self.assertEqual(client.connack[0], min(connection, 1))  # session present
                    self.assertEqual(client.subscribe(topic)[0], SUBACK)
                    self.send(topic, f"job {connection}")
                    self.assertEqual(client.deliveries(), [f"job {connection}"])
                    self.cut(client, client_id)

    def test_subscribing_twice_on_one_connection_delivers_once(self) -> None:
        client, topic = self.connect(5), unique("topic")
        client.subscribe(topic)
        client.subscribe(topic)
        self.send(topic, "job")
        self.assertEqual(client.deliveries(), ["job"])

    def test_offline_session_gets_its_messages_once(self) -> None:
        client_id, topic = unique("c"), unique("topic")
        client = self.connect(5, client_id, session=True)
        client.subscribe(topic)
        self.cut(client, client_id)
        self.send(topic, "job")
        client = self.connect(5, client_id, session=True)
        self.assertEqual(client.deliveries(), ["job"])


class IotSharedSubscriptions(Iot):
    def member(self, topic: str, client_id: str = "", session: bool = False) -> Mqtt:
        client = self.connect(5, client_id, session)
        self.assertEqual(client.subscribe(f"$share/plant/{topic}")[1][-1], 1)
        return client

    def test_each_message_goes_to_one_member(self) -> None:
        topic = unique("topic")
        members = [self.member(topic) for _ in range(3)]
        plain = self.connect(5)
        plain.subscribe(topic)
        sent = [str(n) for n in range(60)]
        self.send(topic, *sent)

        shares = [member.deliveries() for member in members]

        self.assertEqual(sorted(sum(shares, [])), sorted(sent))
        # That one member of three gets no message of 60 happens once in 10^10 runs.
        self.assertTrue(all(shares), shares)
        self.assertEqual(plain.deliveries(), sent)

    def test_each_group_gets_every_message(self) -> None:
        topic, clients = unique("topic"), []
        for group in ("one", "two"):
            clients.append(self.connect(5))
            clients[-1].subscribe(f"$share/{group}/{topic}")
        self.send(topic, "job")
        self.assertEqual([client.deliveries() for client in clients], [["job"], ["job"]])

    def test_shared_filter_can_have_a_wildcard(self) -> None:
        base = unique("base")
        client = self.member(f"{base}/+/x")
        self.send(f"{base}/a/x", "yes")
        self.send(f"{base}/a/y", "no")
        self.assertEqual(client.deliveries(), ["yes"])

    def test_malformed_shared_filter_is_refused(self) -> None:
        client = self.connect(5)
        for topic_filter in ("$share/g", "$share/g/", "$share//a", "$share/+/a"):
            with self.subTest(topic_filter):
                self.assertGreaterEqual(client.subscribe(topic_filter)[1][-1], 0x80)

    def test_group_without_a_connected_member_keeps_messages(self) -> None:
        topic = unique("topic")
        names = [unique("c"), unique("c")]
        for name in names:
            self.cut(self.member(topic, name, session=True), name)
        self.send(topic, "1", "2")

        first = self.connect(5, names[1], session=True)

        self.assertEqual(first.deliveries(), ["1", "2"])

        second = self.connect(5, names[0], session=True)
        self.assertEqual(second.deliveries(), [])

    def test_group_without_a_session_keeps_nothing(self) -> None:
        topic, name = unique("topic"), unique("c")
        self.cut(self.member(topic, name), name)
        self.send(topic, "lost")
        self.assertEqual(self.member(topic).deliveries(), [])

    def test_unacknowledged_messages_of_a_lost_member_go_to_another(self) -> None:
        for session in (False, True):
            with self.subTest(session=session):
                topic, name = unique("topic"), unique("c")
                lost = self.member(topic, name, session)
                self.send(topic, "1", "2")
                self.assertEqual(lost.deliveries(acknowledge=False), ["1", "2"])
                other = self.member(topic)
                self.cut(lost, name)
                self.assertEqual(until(other.deliveries, "the messages"), ["1", "2"])

                back = self.connect(5, name, session)
                self.assertEqual(back.deliveries(), [])

    def test_unacknowledged_messages_of_the_only_member_come_back_to_it(self) -> None:
        topic, name = unique("topic"), unique("c")
        lost = self.member(topic, name, session=True)
        self.send(topic, "1")
        self.assertEqual(lost.deliveries(acknowledge=False), ["1"])
        self.cut(lost, name)
        self.assertEqual(self.connect(5, name, session=True).deliveries(), ["1"])
