"""The report's page: charts, method names, verdicts and the template."""
