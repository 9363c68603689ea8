"""The check of templates must fail on what it is there for."""

import pathlib
import re
import unittest

import template
import yaml

BROKEN = pathlib.Path(__file__).parent / "broken" / "templates"
EXPECTED = re.compile(r"# Its findings must be: (.*)")


def rules(findings: list[str]) -> set[str]:
    """The rules of findings, which are `WHERE: RULE: TEXT`, for a combination `PARTS: WHERE: RULE: TEXT`."""
    return {re.findall(r"(?:^|: )([a-z-]+): ", finding)[0] for finding in findings}


class Template(unittest.TestCase):
    def test_each_broken_template_breaks_the_rules_that_it_names_and_no_others(self) -> None:
        seen = set()
        for path in sorted(BROKEN.glob("*.yml")):
            text = path.read_text()
            expected = set(EXPECTED.match(text)[1].split(", "))
            findings = template.check(yaml.load(text, template.Loader))
            self.assertEqual(rules(findings), expected, f"{path.name}: {findings}")
            seen |= expected
        all_rules = {
            "wildcard",
            "unencrypted",
            "public",
            "no-echo",
            "alarm",
            "unwatched",
            "dangling",
            "combination",
        }
        self.assertEqual(seen, all_rules)

    def test_the_template_of_the_project_passes_and_has_what_the_rules_look_at(self) -> None:
        text = (template.ROOT / "template.yml").read_text()
        project = yaml.load(text, template.Loader)
        self.assertEqual(template.check(project), [])
        kinds = {resource["Type"] for resource in project["Resources"].values()}
        self.assertLessEqual({"AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::Lambda::Url"}, kinds)

    def test_a_function_or_machine_that_loses_its_alarm_is_found(self) -> None:
        project = yaml.load((template.ROOT / "template.yml").read_text(), template.Loader)
        resources = project["Resources"]
        for alarm, lost in {
            "CompactFunctionAlarm": "CompactFunction",
            "CompactExecutionsAlarm": "CompactStateMachine",
            "FunctionErrorsAlarm": "MskToS3Function",
        }.items():
            others = {name: one for name, one in resources.items() if name != alarm}
            found = template.unwatched(lost, resources[lost], {"Resources": others})
            self.assertEqual(rules(found), {"unwatched"}, f"{lost} without {alarm}")

    def test_an_alarm_on_more_metrics_than_cloudwatch_allows_is_found(self) -> None:
        stat = {"MetricStat": {"Metric": {"MetricName": "Errors", "Dimensions": []}}}
        alarm = {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Metrics": [stat] * 11}}
        found = template.check({"Resources": {"KafkaLagAlarm": alarm}})
        expected = ["KafkaLagAlarm: alarm: it reads 11 metrics, and CloudWatch allows 10"]
        self.assertEqual(found, expected)

    def test_a_public_url_that_loses_its_condition_is_found(self) -> None:
        text = (template.ROOT / "template.yml").read_text()
        lost = text.replace(
            "    Type: AWS::Lambda::Url\n    Condition: HasApprovals\n",
            "    Type: AWS::Lambda::Url\n",
        )
        self.assertNotEqual(lost, text)
        found = template.check(yaml.load(lost, template.Loader))
        self.assertIn("ApprovalFunctionUrl: public", "\n".join(found))


if __name__ == "__main__":
    unittest.main()
