"""Kinds of texts that hold a secret, a way to make secrets of each, and texts that hold none."""

import base64
import html
import json
import random
import shlex
import string
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, quote_plus

MARK = "§"
"""Where a kind's text has its secret."""

WORD = string.ascii_letters + string.digits
NAME = WORD + "-_"
BARE = WORD + "@/=%+-_.:~^*?!#$"
"""What a secret may be made of that stands in no quotes."""
QUOTED = BARE + " ,;&|()[]{}<>äß日本é"
"""What it may be made of in quotes, where the form has no escape."""
ANY = QUOTED + "'\"\\`"
"""What it may be made of where the form can escape it."""


class Kind(NamedTuple):
    """A text with a secret; `write` puts the secret into it as the form demands."""

    name: str
    text: str
    alphabet: str = BARE
    write: Callable[[str], str] = str
    length: tuple[int, int] = (8, 24)

    def secret(self, seed: int) -> str:
        """Make a secret: with a letter and a digit, as nearly every policy wants it."""
        rng = random.Random(f"{self.name} {seed}")
        least, most = self.length
        inside = "".join(rng.choices(self.alphabet, k=rng.randint(least, most) - 3))
        # At its ends are none of the marks that nobody could tell from what is around.
        plain = [letter for letter in self.alphabet if letter.isascii() and letter.isalnum()]
        letters, digits = filter_by(str.isalpha, plain), filter_by(str.isdigit, plain)
        return rng.choice(plain) + inside + rng.choice(letters) + rng.choice(digits or letters)

    def filled(self, secret: str) -> str:
        """Write a secret into the text."""
        return self.text.replace(MARK, self.write(secret))


def filter_by(test: Callable[[str], bool], letters: list[str]) -> list[str]:
    """Return the letters that pass a test."""
    return [letter for letter in letters if test(letter)]


def left_over(kind: Kind, secret: str, redacted: str) -> str:
    """Return a piece of a secret, as it is or as it was written, that is still there; empty if there is none."""
    size = 5
    for form in {secret, kind.write(secret)}:
        pieces = [form[i : i + size] for i in range(max(1, len(form) - size + 1))]
        found = next((piece for piece in pieces if piece in redacted and piece not in kind.text), "")
        if found:
            return found
    return ""


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _twice(text: str) -> str:
    return _json(_json(text))


def _single(text: str) -> str:
    """Write as in a Python string with single quotes."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _sql(text: str) -> str:
    return text.replace("'", "''")


def _xml(text: str) -> str:
    return html.escape(text)


def _basic(text: str) -> str:
    return base64.b64encode(f"etl:{text}".encode()).decode()


def _lines(text: str) -> str:
    return "\n".join(text[i : i + 24] for i in range(0, len(text), 24))


def _escaped_lines(text: str) -> str:
    return _lines(text).replace("\n", "\\n")


def _jwt(text: str) -> str:
    parts = ('{"alg":"HS256","typ":"JWT"}', json.dumps({"sub": text}))
    head, body = (base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.{base64.urlsafe_b64encode(text.encode() * 3).decode().rstrip('=')}"


LONG = (120, 200)
B64 = WORD + "+/"
HEX = "0123456789abcdef"

KINDS = [
    # command lines
    Kind("argv list", "Command '['mysql', '--password', '§']' returned non-zero exit status 1.", QUOTED, _single),
    Kind("argv list, JSON", 'cmd: ["vault", "--token", "§", "--env", "prod"]', ANY, _json),
    Kind("argv list, option and value in one", "Command '['mysqldump', '-uroot', '--password=§', 'db']' failed", BARE),
    Kind("argv list, short option", "Command '['mysqldump', '-u', 'root', '-p§', 'db']' failed", BARE),
    Kind("argv list, escaped", r"{\"cmd\": [\"deploy\", \"--api-key\", \"§\", \"--wait\"]}", ANY, _twice),
    Kind("argv tuple", "run(('sshpass', '-p', '§', 'ssh', 'host'))", QUOTED, _single),
    Kind("argv list of bytes", "[b'deploy', b'--token', b'§']", WORD),
    Kind("option and value", "deploy --token § --env prod failed with 1"),
    Kind("option with =", "deploy --client-secret=§ --env prod failed"),
    Kind("option, shell quoted", "deploy --password § --env prod", ANY, shlex.quote),
    Kind("option with =, shell quoted", "deploy --password=§ --env prod", ANY, shlex.quote),
    Kind("option, double quotes", 'deploy --password "§" --env prod', QUOTED),
    Kind("option over lines", "deploy \\\n  --secret-key \\\n  § \\\n  --env prod"),
    Kind("option with one dash", "keytool -list -keystore k.jks -storepass § -v"),
    Kind("option of Windows", "net use /user:etl /password:§ /y"),
    Kind("Java property", "java -Djavax.net.ssl.keyStorePassword=§ -jar x.jar"),
    Kind("mysql -p", "mysqldump -u root -p§ orders > x.sql"),
    Kind("mariadb -p, quoted", "mariadb -u root -p§ orders", ANY, lambda s: "'" + s.replace("'", "'\\''") + "'"),
    Kind("curl -u", "curl -sS -u etl:§ https://api.example.com/v1"),
    Kind("curl --user, quoted", "curl --user 'etl:§' https://api.example.com/v1", QUOTED),
    Kind("curl -H", "curl -H 'X-Api-Key: §' https://api.example.com/v1", BARE),
    Kind("curl -H Authorization", 'curl -H "Authorization: Bearer §" https://api.example.com/v1', NAME),
    Kind("redis-cli -a", "redis-cli -h cache -a § PING"),
    Kind("sshpass -p", "sshpass -p § ssh etl@host ls"),
    Kind("sshpass -p, without a space", "sshpass -p§ ssh etl@host ls"),
    Kind("sqlcmd -P", "sqlcmd -S db -U sa -P § -Q 'select 1'"),
    Kind("docker login", "docker login -u etl -p § registry.example.com"),
    Kind("mongodump -p", "mongodump --host m -u etl -p § --db x"),
    Kind("ldapsearch -w", "ldapsearch -x -D cn=etl -w § -b dc=x"),
    Kind("openssl -passin", "openssl rsa -in k.pem -passin pass:§ -out o.pem"),
    Kind("7z -p", "7z x -p§ dump.7z"),
    Kind("smbclient -U", "smbclient //host/share -U etl%§ -c ls"),
    Kind("sqlplus", "sqlplus -S scott/§@orcl @load.sql", WORD + "_#"),
    Kind("variable before a command", "PGPASSWORD=§ psql -h db -c 'select 1'"),
    Kind("variable before a command, quoted", "PGPASSWORD=§ psql -h db -c 'select 1'", ANY, shlex.quote),
    Kind("docker -e", "docker run -e MYSQL_ROOT_PASSWORD=§ -d mysql:8"),
    Kind("helm --set", "helm upgrade x --set db.password=§ --wait", NAME),
    Kind("export", "export AWS_SECRET_ACCESS_KEY=§", B64),
    Kind("setenv", "setenv DB_PASSWORD §"),
    Kind("aws configure", "aws configure set aws_secret_access_key § --profile etl", B64, length=(40, 40)),
    Kind("kubectl literal", "kubectl create secret generic x --from-literal=pw=§", NAME),
    Kind("PowerShell", '$password = "§"', QUOTED),
    Kind("PowerShell, secure string", 'ConvertTo-SecureString "§" -AsPlainText -Force', QUOTED),
    # addresses
    Kind("URL", "could not connect to postgresql://etl:§@db:5432/orders", WORD + "-_.~!$*+="),
    Kind("URL, @ in the password", "postgresql://etl:p@§@db/orders", WORD + "@"),
    Kind("URL, slash in the password", "postgresql://etl:§@db.example.com/orders", WORD + "/@"),
    Kind("URL, percent", "postgresql://etl:§@db/orders", ANY, lambda s: quote(s, safe="")),
    Kind("URL, no user", "redis://:§@cache:6379/0", WORD),
    Kind("URL, address as user", "smtp://etl@corp.com:§@smtp.corp.com:587", WORD),
    Kind("URL, token as user", "fatal: https://§@git.example.com/x.git not found", WORD, length=(32, 40)),
    Kind("URL, SQLAlchemy", "Could not parse mssql+pyodbc://sa:§@host/db?driver=ODBC+Driver+17", WORD + "!#*"),
    Kind("URL in JSON", '{"dsn": "mongodb+srv://etl:§@c.example.net/x", "n": 1}', WORD),
    Kind("JDBC, SQL Server", "jdbc:sqlserver://h:1433;databaseName=x;user=sa;password=§;encrypt=true", BARE),
    Kind("JDBC, MySQL", "jdbc:mysql://h:3306/x?user=etl&password=§&useSSL=true", NAME),
    Kind("JDBC, Oracle", "jdbc:oracle:thin:scott/§@//db:1521/orcl", WORD),
    Kind("DSN of Go", "etl:§@tcp(db:3306)/orders", WORD),
    Kind("query, password", "GET https://x.example.com/?user=a&password=§&n=1 failed", NAME),
    Kind("query, access_token", "404 for url: https://x.example.com/me?access_token=§", NAME),
    Kind("fragment, access_token", "https://x.example.com/cb#access_token=§&expires_in=3600", NAME),
    Kind("SAS", "https://a.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-01-01&sr=b&sig=§", B64, quote_plus),
    Kind("signed by AWS", "https://b.s3.amazonaws.com/k?X-Amz-Date=2026&X-Amz-Signature=§", HEX, length=(64, 64)),
    Kind("session token of AWS", "https://b.s3.amazonaws.com/k?X-Amz-Security-Token=§&x=1", B64, quote_plus),
    Kind("signed by Google", "https://storage.googleapis.com/b/o?X-Goog-Signature=§", HEX, length=(64, 64)),
    Kind("Slack webhook", "POST https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/§ 404", WORD, length=(24, 24)),
    Kind("bot of Telegram", "https://api.telegram.org/bot123456789:§/sendMessage", NAME, length=(35, 35)),
    Kind("connection URI of Airflow", "AIRFLOW_CONN_DB=mysql://etl:§@db/x?charset=utf8", WORD + "%"),
    Kind(
        "extra in a URI of Airflow",
        "http://?__extra__=%7B%22api_key%22%3A+%22§%22%2C+%22a%22%3A+1%7D",
        BARE,
        quote_plus,
    ),
    # keys and values
    Kind("name=value", "login failed, password=§, host=x"),
    Kind("name = value", "password = § rejected"),
    Kind("name: value", "PGPASSWORD: §"),
    Kind("name => value", "{:password=>'§', :a=>1}", QUOTED, _single),
    Kind("name := value", "token := '§'", QUOTED, _single),
    Kind("name -> value", "api_key -> §"),
    Kind(".env", "DB_USER=etl\nDB_PASS=§\nDB_HOST=x"),
    Kind(".env, quoted", 'DB_USER=etl\nDB_PASS="§"\nDB_HOST=x', QUOTED),
    Kind("base of a secret key", "SECRET_KEY_BASE=§", HEX, length=(64, 64)),
    Kind("INI", "[smtp]\nsmtp_user = x\nsmtp_password = §\nsmtp_port = 25"),
    Kind("TOML", '[db]\nuser = "x"\npassword = "§"\nport = 1', ANY, _json),
    Kind("properties", "spring.datasource.username=x\nspring.datasource.password=§\nserver.port=1"),
    Kind("YAML", "db:\n  user: x\n  password: §\n  port: 1", WORD + "-_.!@/"),
    Kind("YAML, quoted", "db:\n  password: '§'\n  port: 1", ANY, _sql),
    Kind("YAML, next line", "db:\n  password:\n    §\n  port: 1", WORD + "-_.!@/"),
    Kind("YAML, block", "db:\n  password: |\n    §\n  port: 1", WORD + "-_.!@/ "),
    Kind("YAML, list of variables", "env:\n  - name: DB_PASSWORD\n    value: §\n  - name: A", WORD + "-_."),
    Kind("compose", "environment:\n  - POSTGRES_PASSWORD=§\n  - A=b"),
    Kind("JSON", '{"user": "x", "password": "§", "port": 1}', ANY, _json),
    Kind("JSON, in a line with others", 'INFO {"client_secret":"§","a":"b"} sent', ANY, _json),
    Kind("JSON, escaped", r'{"text": "{\"password\": \"§\", \"a\": 1}", "b": 2}', ANY, _twice),
    Kind("JSON, escaped twice", r'"{\"t\": \"{\\\"password\\\": \\\"§\\\", \\\"a\\\": 1}\"}"', WORD + " @/=$"),
    Kind("JSON, indented", '{\n  "private_token":\n    "§",\n  "a": 1\n}', ANY, _json),
    Kind("JSON, list", '{"api_keys": ["§", "§x"], "a": 1}', ANY, _json),
    Kind("JSON, name and value", '[{"name": "DB_PASSWORD", "value": "§"}, {"name": "A", "value": "b"}]', ANY, _json),
    Kind("dict", "{'user': 'x', 'password': '§', 'port': 1}", QUOTED, _single),
    Kind("dict, repr", "{'password': §, 'port': 1}", ANY, repr),
    Kind("dict, bytes", "{b'password': b'§', b'port': 1}", WORD + "@/=$"),
    Kind("pairs", "[('user', 'x'), ('password', '§')]", QUOTED, _single),
    Kind("pairs, repr", "[('user', 'x'), ('password', §), ('a', 1)]", ANY, repr),
    Kind("pairs as lists", '[["user", "x"], ["password", "§"]]', ANY, _json),
    Kind("query as a dict", "{'user': ['x'], 'password': ['§']}", QUOTED, _single),
    Kind("object", "Connection(conn_id='x', login='a', password='§', port=1)", QUOTED, _single),
    Kind("object without quotes", "Config(user=x, password=§, port=1)", WORD + "@/=$!"),
    Kind("struct of Go", "{User:x Password:§ Port:1}", WORD + "@/=$!"),
    Kind("map of Java", "{user=x, password=§, port=1}", WORD + "@/=$!"),
    Kind("var_dump", 'array(1) {\n  ["password"]=>\n  string(8) "§"\n}', QUOTED),
    Kind("camelCase", '{"dbPassword": "§", "authToken": "§"}', ANY, _json),
    Kind("prefix and number", "MY_API_TOKEN_2=§"),
    Kind("capitals", "AWSSECRETACCESSKEY=§", B64),
    Kind("space in the name", "API key: §", WORD + "-_.@/"),
    Kind("name with a dotless i", "credentıal=§"),
    Kind("name with Cyrillic letters", "pаsswоrd=§"),
    Kind("name in full width", "ｐａｓｓｗｏｒｄ＝§"),
    Kind("colours", "\x1b[32mpassword\x1b[0m=\x1b[1m§\x1b[0m next"),
    Kind("colours, escaped", r"\x1b[32mpassword\x1b[0m\x1b[2m=\x1b[0m§\x1b[0m next", WORD),
    Kind("typographic quotes", "password “§” was refused", WORD + " @/"),
    Kind("entities", "{&quot;password&quot;: &quot;§&quot;, &quot;a&quot;: 1}", WORD + " @/=$"),
    Kind("over lines", "password='§\nsecond' host=x", WORD),
    Kind("table", "| user | x |\n| password | § |", WORD + "@/=$"),
    Kind("psql, expanded", "-[ RECORD 1 ]---\nusr      | x\npassword | §", WORD + "@/=$"),
    Kind("in words", "the password is '§' and it was refused", QUOTED, _single),
    Kind("changed value", '~ password = "§" -> "§2"', QUOTED),
    Kind("pydantic", "1 validation error for S\npassword\n  too short [type=x, input_value='§', input_type=str]", WORD),
    Kind("German", "Passwort: §, Benutzer: x", WORD + "@/=$"),
    Kind("Spanish", "contraseña=§ usuario=x", WORD + "@/=$"),
    Kind("WireGuard", "[Interface]\nPrivateKey = §\nAddress = 10.0.0.1/24", B64, length=(44, 44)),
    # markup
    Kind("XML", "<db><user>x</user><password>§</password></db>", ANY, _xml),
    Kind("XML, name space", '<wsse:Password Type="PasswordText">§</wsse:Password>', ANY, _xml),
    Kind("XML, attribute", '<db user="x" password="§" port="1"/>', ANY, _xml),
    Kind("XML, name and value", '<add key="ApiKey" value="§" />', ANY, _xml),
    Kind("XML, Hadoop", "<property><name>fs.s3a.secret.key</name><value>§</value></property>", ANY, _xml),
    Kind("XML, escaped", "&lt;password&gt;§&lt;/password&gt;", WORD + "@/="),
    Kind("form", '<input type="password" name="p" value="§">', ANY, _xml),
    Kind("form data", 'Content-Disposition: form-data; name="password"\r\n\r\n§\r\n--x--', WORD + "@/=$"),
    # headers
    Kind("Basic", "Authorization: Basic §", WORD + "@/:", _basic),
    Kind("Bearer", "Authorization: Bearer §", NAME + "."),
    Kind("Token", "{'Authorization': 'Token §'}", WORD),
    Kind("ApiKey", "{'Authorization': 'ApiKey §', 'Accept': '*/*'}", B64),
    Kind("no scheme", '{"Authorization": "§", "Accept": "*/*"}', NAME + "."),
    Kind("Digest", 'Authorization: Digest username="x", realm="r", nonce="n", uri="/", response="§"', HEX),
    Kind(
        "AWS4",
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAABCDEFGHIJKLMNOP/2026/s3/aws4_request, "
        "SignedHeaders=host, Signature=§",
        HEX,
        length=(64, 64),
    ),
    Kind("Proxy-Authorization", "Proxy-Authorization: Basic §", WORD, _basic),
    Kind("headers as pairs of bytes", "[(b'authorization', b'Bearer §'), (b'accept', b'*/*')]", NAME),
    Kind("Cookie", "Cookie: theme=dark; sessionid=§", NAME),
    Kind("Set-Cookie", "Set-Cookie: session=§; Path=/; HttpOnly", NAME),
    Kind("cookies", "cookies={'session': '§'}", NAME),
    Kind("X-Api-Key", "X-Api-Key: §", NAME),
    Kind("X-Vault-Token", '{"X-Vault-Token": "§"}', NAME),
    Kind("Private-Token", "PRIVATE-TOKEN: §", NAME),
    Kind("subscription key", "Ocp-Apim-Subscription-Key: §", HEX, length=(32, 32)),
    Kind("Bearer alone", "refused: Bearer §", NAME + ".", length=(16, 40)),
    Kind("auth of docker", '{"auths": {"r.example.com": {"auth": "§"}}}', WORD, _basic),
    # connection strings
    Kind("storage of Azure", "AccountName=x;AccountKey=§==;EndpointSuffix=core.windows.net", B64, length=(60, 86)),
    Kind("bus of Azure", "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=§=;EntityPath=e", B64),
    Kind("ADO", "Server=x;User Id=sa;Pwd=§;Encrypt=yes"),
    Kind("ODBC", "DRIVER={ODBC};UID=sa;PWD={§};SERVER=x", WORD + ";=@ !"),
    Kind("libpq", "dbname=x user=y password=§ host=z"),
    Kind("libpq, quoted", "dbname=x user=y password='§' host=z", ANY, _single),
    Kind("JAAS", 'PlainLoginModule required username="x" password="§";', QUOTED),
    # forms that tell by themselves
    Kind("JWT", "cannot decode § at all", WORD, _jwt),
    Kind("AWS key id", "denied for AKIA§ in eu-west-1", string.ascii_uppercase + "234567", length=(16, 16)),
    Kind("GitHub", "cloning with ghp_§ failed", WORD, length=(36, 36)),
    Kind("GitHub, fine-grained", "cloning with github_pat_§ failed", WORD + "_", length=(82, 82)),
    Kind("GitLab", "cloning with glpat-§ failed", NAME, length=(20, 20)),
    Kind("Slack", "invalid_auth for xoxb-12345-§", WORD, length=(24, 24)),
    Kind("Stripe", "No such key: sk_live_§", WORD, length=(24, 99)),
    Kind("Google API key", "key AIza§ is not allowed", NAME, length=(35, 35)),
    Kind("Google token", "refreshing ya29.§ failed", NAME, length=(60, 100)),
    Kind("OpenAI", "Incorrect key provided (sk-proj-§)", NAME, length=(40, 100)),
    Kind("npm", "npm_§ may not publish", WORD, length=(36, 36)),
    Kind("PyPI", "pypi-AgEI§ may not upload", NAME, length=(100, 150)),
    Kind("SendGrid", "SG.§.§ is not allowed", NAME, length=(22, 43)),
    Kind("Twilio", "SK§ is revoked", HEX, length=(32, 32)),
    Kind("Databricks", "dapi§ has no access", HEX, length=(32, 32)),
    Kind("Snowflake", 'Snowflake Token="ver:1-hint:123-§"', B64, length=(60, 90)),
    Kind("Azure client secret", "AADSTS7000215: abc8Q~§ is wrong", NAME + ".~", length=(34, 34)),
    Kind("Vault", "permission denied for hvs.§", NAME, length=(24, 90)),
    Kind("Hugging Face", "hf_§ has no access", string.ascii_letters, length=(34, 34)),
    Kind("Fernet", "FERNET_KEY=§=", WORD + "-_", length=(43, 43)),
    Kind("password hash", "user etl has $2b$12$§ stored", WORD + "./", length=(53, 53)),
    # keys in armour
    Kind("PEM", "-----BEGIN RSA PRIVATE KEY-----\n§\n-----END RSA PRIVATE KEY-----", B64, _lines, LONG),
    Kind(
        "PEM, escaped",
        r'{"private_key": "-----BEGIN PRIVATE KEY-----\n§\n-----END PRIVATE KEY-----\n"}',
        B64,
        _escaped_lines,
        LONG,
    ),
    Kind("PEM, cut", "bad key -----BEGIN EC PRIVATE KEY-----\n§", B64, _lines, LONG),
    Kind(
        "PEM, its end",
        "§\n-----END PRIVATE KEY-----",
        B64,
        lambda s: "\n".join(s[i : i + 64] for i in range(0, len(s), 64)),
        LONG,
    ),
    Kind("PGP", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n§\n-----END PGP PRIVATE KEY BLOCK-----", B64, _lines, LONG),
    Kind("OpenSSH", "-----BEGIN OPENSSH PRIVATE KEY-----\n§\n-----END OPENSSH PRIVATE KEY-----", B64, _lines, LONG),
    Kind(
        "SSH2",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n§\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
        B64,
        _lines,
        LONG,
    ),
    Kind("age", "AGE-SECRET-KEY-1§", string.ascii_uppercase + "0234567", str.upper, (58, 58)),
    Kind("JWK", '{"kty": "EC", "crv": "P-256", "x": "abc", "d": "§"}', NAME, length=(43, 43)),
    # code and SQL
    Kind("source line", '  File "/d/x.py", line 3, in f\n    connect(host, user="x", password="§")\nE: no', ANY, _json),
    Kind("source line, item", '    os.environ["DB_PASS"] = "§"\nE: no', ANY, _json),
    Kind("source line, default", '    password = os.getenv("DB_PASS", "§")\nE: no', ANY, _json),
    Kind("source line, type", '    def f(password: str = "§"):\nE: no', ANY, _json),
    Kind("source line, comparison", "    assert token == '§'\nE: no", WORD + "@/"),
    Kind("source line, wrapped", "    key = Fernet('§')\nE: no", WORD + "-_=", length=(44, 44)),
    Kind("source line, auth", "    get(url, auth=('etl', '§'), timeout=3)", QUOTED, _single),
    Kind("source line, login", "    smtp.login('etl@x.com', '§')", QUOTED, _single),
    Kind("source line, setter", "    client.set_password('§')", QUOTED, _single),
    Kind("source line, setter of two", "    os.putenv('DB_PASSWORD', '§')", WORD + "@/ "),
    Kind("secret in an object", "Settings(token=SecretValue('§'), a=1)", QUOTED, _single),
    Kind("IDENTIFIED BY", "[SQL: CREATE USER x IDENTIFIED BY '§']", QUOTED, _sql),
    Kind("IDENTIFIED WITH", "ALTER USER x IDENTIFIED WITH caching_sha2_password BY '§'", QUOTED, _sql),
    Kind("IDENTIFIED BY, Oracle", "CREATE USER x IDENTIFIED BY § ACCOUNT UNLOCK", WORD + "_#"),
    Kind("PASSWORD", "CREATE USER x WITH ENCRYPTED PASSWORD '§' VALID UNTIL '2027-01-01'", ANY, _sql),
    Kind("WITH PASSWORD =", "CREATE LOGIN x WITH PASSWORD = N'§', CHECK_POLICY = ON", QUOTED, _sql),
    Kind("SET PASSWORD", "SET PASSWORD FOR 'x'@'%' = PASSWORD('§')", QUOTED, _sql),
    Kind("COPY", "COPY t FROM 's3://b/k' SECRET_ACCESS_KEY '§' FORMAT CSV", B64),
    Kind("CREDENTIALS", "COPY t FROM 's3://b/k' CREDENTIALS 'aws_access_key_id=x;aws_secret_access_key=§'", B64),
    Kind("INSERT", "INSERT INTO users (name, password, n) VALUES ('x', '§', 1)", ANY, _sql),
    Kind("UPDATE", "UPDATE users SET password = '§' WHERE id = 1", ANY, _sql),
    Kind(
        "parameters",
        "(x.Error) boom\n[SQL: INSERT INTO t VALUES (?)]\n[parameters: ('§', 1)]\n(Background on",
        QUOTED,
        _single,
    ),
    # files
    Kind(".netrc", "machine x.example.com login etl password §\n"),
    Kind(".netrc, lines", "machine x.example.com\n  login etl\n  password §\n"),
    Kind(".pgpass", "cannot parse\ndb.example.com:5432:orders:etl:§", WORD + "@/=$"),
    Kind(".npmrc", "//registry.example.com/:_authToken=§", NAME),
    Kind("Dockerfile", "ENV DB_PASSWORD §\nRUN x"),
    Kind("secret of Kubernetes", "kind: Secret\ndata:\n  user: eA==\n  password: §", WORD, _basic),
    Kind("AUTH of Redis", "b'AUTH §\\r\\n'", WORD),
    Kind("AUTH of SMTP", "send: 'AUTH PLAIN §\\r\\n'", WORD, _basic),
]

READABLE = [
    # exceptions as people meet them
    "KeyError: 'token'",
    "KeyError: 'password'",
    "KeyError: \"None of [Index(['token', 'key'], dtype='object')] are in the [columns]\"",
    'password authentication failed for user "x"',
    'FATAL:  password authentication failed for user "etl"\nconnection to server at "db" (10.0.0.1), port 5432 failed',
    "Access denied for user 'root'@'localhost' (using password: YES)",
    "Access denied for user 'root'@'10.0.0.3' (using password: NO)",
    "token expired at 2026-01-01T00:00:00Z",
    "secret not found: projects/x/secrets/y",
    "Secret: projects/x/secrets/y/versions/latest was not found",
    "Invalid API key provided",
    "Invalid token: Signature has expired",
    "jwt.exceptions.DecodeError: Invalid token: Not enough segments",
    "InvalidToken: Fernet key must be 32 url-safe base64-encoded bytes.",
    "cryptography.fernet.InvalidToken",
    "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    "An error occurred (ExpiredToken) when calling the ListObjects operation: The provided token has expired.",
    "ExpiredToken: The security token included in the request is expired",
    "An error occurred (InvalidAccessKeyId) when calling the PutObject operation",
    "User: arn:aws:iam::123456789012:user/x is not authorized to perform: secretsmanager:GetSecretValue on resource: y",
    'secrets "db-credentials" not found',
    'Error from server (NotFound): secret "db-credentials" not found',
    "google.auth.exceptions.RefreshError: ('invalid_grant: Token has been expired or revoked.', {'error': 'invalid_grant'})",
    "{'error': 'invalid_token', 'error_description': 'The token is expired'}",
    "TypeError: connect() missing 1 required keyword-only argument: 'password'",
    "TypeError: f() got an unexpected keyword argument 'token'",
    "ValueError: missing password",
    "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    "SyntaxError: Unexpected token '<', \"<!DOCTYPE \"... is not valid JSON",
    'ParseException: mismatched input "FROM" expecting {<EOF>, ","}(line 1, pos 7)',
    "org.hibernate.hql.QuerySyntaxException: unexpected token: FROM near line 1, column 9",
    "pydantic_core.ValidationError: 1 validation error for Settings\npassword\n  Field required [type=missing, input_value={'user': 'x'}, input_type=dict]",
    '{"password": ["This field is required."], "token": ["This field may not be blank."]}',
    '{"errors": [{"field": "api_key", "message": "is invalid"}]}',
    '{"password": null, "token": "", "use_token": true, "api_key": None}',
    "error: argument --token: expected one argument",
    "the --password option is required, or --token-file",
    "Use --api-key to set the key, or --password-stdin",
    "invalid value for password: must be at least 8 characters",
    "Password: required",
    "Authorization: required",
    "authorization: denied for user x",
    "basic authentication failed for this deployment",
    "Bearer authentication is not supported here",
    "cookie: accepted by nobody",
    "There is no primary key=id in table orders",
    'duplicate key value violates unique constraint "orders_pkey"\nDETAIL:  Key (id)=(42) already exists.',
    "partition_key=2026-01-01, sort_key=42, cache_key=orders:v2",
    "monkey=george, keyboard: us, turkey=istanbul, donkey: grey",
    "foreign_key=orders.id public_key=orders idempotency_key=airflow/prod/dag/x",
    "tokenizer=bert, tokenize=True, secretary=Bob, author=Ann, passenger: 3, compass=north, bypass=yes",
    "max_tokens=4096, prompt_tokens: 512, total_tokens=4608, token_count=3",
    "token_type=bearer, token_url=https://login.example.com/oauth/token, token_endpoint: /token",
    "secret_name=orders-db, secretName: orders-db, password_file=/run/secrets/db, key_file=/etc/ssl/k.pem",
    "GOOGLE_APPLICATION_CREDENTIALS=/opt/airflow/keys/gcp.json",
    "PWD=/opt/airflow\nOLDPWD=/root",
    "passwordless: true, password_required=False, is_token_valid=False, has_secret: no",
    "secretKeyRef: {name: orders-db, key: user}",
    "sort key: created_at, hash key: id, key: value",
    "pass: 12, fail: 3",
    "PASS: test_orders (0.3 s)",
    "first pass: 12 rows, second pass: 30 rows",
    "design=flat signal=9 assignment=3 significant: yes",
    # code in tracebacks
    'Traceback (most recent call last):\n  File "/opt/airflow/dags/orders.py", line 31, in load\n    raise ValueError("missing password")\nValueError: missing password',
    '  File "/usr/lib/python3.11/site-packages/secrets_manager/token.py", line 3, in get_token\n    def get_token(self):',
    "    password = os.environ[\"DB_PASS\"]\nKeyError: 'DB_PASS'",
    '    token = os.getenv("API_TOKEN")',
    "    conn = psycopg2.connect(host=host, user=user, password=password)",
    "    return Client(url, token=self.token, api_key=config.api_key)",
    "    api_key = Variable.get('orders_api_key')",
    "    client_secret = get_secret('orders/client')",
    '    headers = {"Authorization": f"Bearer {token}"}',
    '    url = f"postgresql://{user}:{password}@{host}/{db}"',
    "    password = getpass.getpass('Password: ')",
    "    def connect(user: str, password: str, token: Optional[str] = None) -> None:",
    "    password: '{{ conn.orders.password }}'",
    "    password=${DB_PASS}",
    "    password: $DB_PASS",
    "    query = 'select * from users where token = %s and password = :password'",
    "    if token is None:\n        raise RuntimeError('no token')",
    "    for token in tokens:\n        print(token)",
    "    tokens = [token.text for token in doc]",
    "    ~~~~~~~~~~^^^^^^^^^\nKeyError: 'secret'",
    "    token = next(tokens)\nStopIteration",
    "pandas.errors.ParserError: Error tokenizing data. C error: Expected 3 fields in line 5, saw 4",
    '    df = df.drop(columns=["token", "secret"])',
    "    @task(retries=3)\n    def rotate_secrets():",
    # SQL
    '(psycopg2.errors.UndefinedColumn) column "token" does not exist\nLINE 1: SELECT token FROM users WHERE id = 1',
    "[SQL: SELECT id, password_hash, token FROM users WHERE email = %(email)s]",
    "SELECT * FROM orders WHERE created_at >= '2026-01-01' AND state = 'open' LIMIT 10",
    "INSERT INTO orders (id, state, n) VALUES (1, 'open', 3)",
    "CREATE TABLE users (id int primary key, token varchar(40), password text)",
    "GRANT SELECT ON users TO etl",
    'sqlalchemy.exc.ProgrammingError: (psycopg2.errors.UndefinedTable) relation "tokens" does not exist',
    # names and numbers
    "run scheduled__2026-01-01T00:00:00+00:00 of DAG orders failed at 2026-01-01 00:05:13 UTC",
    "manual__2026-11-28T14:22:21.123456+00:00",
    "request 7f9c24e8-3b12-4fef-91e0-9d5c6f0a1b2c failed",
    "commit e0fda62160a86d6cea57fd6fc7bfa54e4f41dd38 broke it",
    "s3://bucket/orders/year=2026/month=01/part-00000-7f9c24e8.snappy.parquet not found",
    "gs://bucket/keys/x.csv, hdfs://nn:8020/user/etl/x, abfss://c@account.dfs.core.windows.net/x",
    "https://airflow.example.com:8443/dags/orders/runs/manual__1/tasks/load?try_number=2",
    "https://example.com:8443/users/bob@example.com/orders",
    "https://example.com/?email=bob@example.com&page=2",
    "https://registry.example.com/@scope/package",
    "git@github.com:org/repo.git and ssh://git@github.com/org/repo.git",
    "postgresql://etl@db:5432/orders is down",
    "bob@example.com wrote to ann@example.com; mailto:bob@example.com",
    "nginx:1.27@sha256:4c0fdaa8b6341bfdeca5f18f7837462c80cff90527ee35ef185571e1c327beac",
    "connection to 10.0.0.1:5432 refused, retry in 3 s",
    "http://localhost:8080 and http://[::1]:8793/log",
    "C:\\Users\\etl\\orders.csv: [WinError 32] in use",
    "/opt/airflow/logs/dag_id=orders/run_id=manual__1/task_id=load/attempt=1.log",
    "exit code 137, memory=512Mi, cpu: 500m, image=orders:1.2.3",
    'md5=9e107d9d372bb6826bd81d3542a419d6 size=42 etag: "33a64df5"',
    "bquxjob_3f5b2a1c_18d2e6a0b1c in project x",
    "mysql -u etl -h db orders: Unknown database",
    "docker login registry.example.com failed with 1",
    "mysqldump -u etl -p orders > x.sql",
    "curl -sS -u etl https://api.example.com/v1 returned 403",
    "ssh -p 2222 etl@host ls",
    "Command '['dbt', 'run', '--select', 'orders', '--target', 'prod']' returned non-zero exit status 1.",
    "3 of 5 secrets rotated: ok",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB bob@host",
    # our own
    "Alert source token: missing; incident.io shows it with the HTTP alert source",
    "Alert source token: has spaces or characters that no key has; copy it once more",
    "API key: missing; create one in incident.io under Settings > API keys",
    "Proxy: must be like http://host:port or https://host:port",
    "Put a valid API key into the connection's password.",
    "Add it: airflow connections add x --conn-type incident_io --conn-password <API key>",
    "incident.io answered 401: api_key: is not valid (request_id 01HX)",
    "the key airflow/prod/dag/orders/run/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00 was used",
    "three bad rows",
]
