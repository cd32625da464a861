# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# "httpd -t" refuses what could stop the server or would never work: every refusal of
# every directive, with its whole sentence, the file and the line.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Configtest qw(vhost);
use Autocert::Util qw(spit run_program);

my $judge = Autocert::Configtest->new;
my $root = $judge->server->root;

# --- Names ---

my $example = 'write a full host name, for example "www.example.org"';
my $a63 = 'a' x 63;
my @bad_names = (
    ['localhost', 'has no dot'],
    ['a_b.example.org', 'has a character that host names cannot have'],
    ['www.example.org:443', 'has a character that host names cannot have'],
    ['https://www.example.org/', 'has a character that host names cannot have'],
    ['a..example.org', 'has an empty label'],
    ['-a.example.org', 'has a label that begins or ends with a hyphen'],
    ['ab--c.example.org', 'has "--" as third and fourth character of a label'],
    ["${a63}a.example.org", 'has a label longer than 63 octets'],
    [join('.', ($a63) x 4), 'is longer than 253 octets'],
    ["\xff\xfe.example.org", 'is not UTF-8'],
    ['www.*.example.org', 'has a "*" that is not the whole first label'],
    ['*.com', 'has no dot'],
);
for my $case (@bad_names) {
    my ($name, $why) = @$case;
    (my $shown = $name) =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;    # as httpd shows it
    $judge->refuses("X-21: AutocertDomain $shown", vhost(">>AutocertDomain good.example.org $name"),
        "AutocertDomain: \"$shown\" $why: $example");
}
for my $case (@bad_names[0 .. 4]) {
    my ($name, $why) = @$case;
    $judge->refuses("AutocertListener $name", ">>AutocertListener 8443 $name\n",
        "AutocertListener: \"$name\" $why: $example");
    $judge->refuses("AutocertDefaultHost $name", ">>AutocertDefaultHost $name\n",
        "AutocertDefaultHost: \"$name\" $why: $example");
}
# httpd itself would leave the rest of the line out, without a word.
my $many = join ' ', map { "n$_.example.org" } 1 .. 64;
for my $case (['AutocertDomain', vhost(">>AutocertDomain $many")], ['AutocertListener', ">>AutocertListener $many\n"]) {
    $judge->refuses("$case->[0] with 64 names", $case->[1],
        "$case->[0]: has more than 63 words, and httpd reads no more of a line: write several lines");
}
$judge->fails_check('HW-01: AutocertDomain with a wildcard',
    vhost('>>AutocertDomain good.example.org *.Example.org'),
    'AutocertDomain: "*.example.org" is a wildcard, which needs a DNS challenge: write "AutocertDNSCommand '
    . 'PROGRAM" and "dns-01" in AutocertChallenges, or the host names one by one');
$judge->fails_check('AutocertListener with a wildcard', ">>AutocertListener 8443 *.example.org\n",
    'AutocertDomain: "*.example.org" is a wildcard, which needs a DNS challenge: write "AutocertDNSCommand '
    . 'PROGRAM" and "dns-01" in AutocertChallenges, or the host names one by one');
for my $case (['printer.local', 'local'], ['db.internal', 'internal'], ['a.localhost', 'localhost'],
    ['box.home.arpa', 'home.arpa'], ['x.y.acme.invalid', 'invalid'], ['a.onion', 'onion']) {
    my ($name, $suffix) = @$case;
    $judge->fails_check("a public CA and $name", vhost(">>AutocertDomain $name"),
        "AutocertDomain: \"$name\" is under \"$suffix\", for which no public CA issues: write a "
        . 'public name, or name a private CA with AutocertCA');
}
for my $case (
    ['no ServerName', ''],
    ['ServerAliases that are patterns or local', "ServerAlias *.example.org db.local\n"],
    ['a ServerName that is an address', "ServerName 192.0.2.1\n"]) {
    my ($what, $lines) = @$case;
    my $said = $judge->judge("<VirtualHost *:443>\n>>AutocertDomain\n$lines</VirtualHost>\n");
    my @errors = $said->{output} =~ /^.*\bAC0010: autocert: (.*)$/mg;
    isnt $said->{status}, 0, "AutocertDomain without names and $what: refused";
    is_deeply \@errors, ["$said->{file}:$said->{marked}: AutocertDomain names no host, and the vhost "
            . 'has no ServerName or ServerAlias that can have a certificate: write "AutocertDomain '
            . 'www.example.org"'], "AutocertDomain without names and $what: the one error";
}

# --- Where a directive stands ---

my $for_80 = 'AutocertDomain: belongs in <VirtualHost *:443>: this one is for port 80, and http-01 '
    . 'needs no line on port 80';
my $no_port = 'AutocertDomain: belongs in <VirtualHost *:443>: this one names no port';
for my $case (['*:80', $for_80], ['192.0.2.1:80', $for_80], ['*:443 *:80', $for_80], ['*', $no_port],
    ['192.0.2.1', $no_port], ['*:443 *', $no_port]) {
    my ($address, $message) = @$case;
    for my $names (' www.example.org', '') {
        $judge->refuses("AutocertDomain$names in <VirtualHost $address>",
            "<VirtualHost $address>\nServerName www.example.org\n>>AutocertDomain$names\n</VirtualHost>\n",
            $message);
    }
}
$judge->fails_check('AutocertEngine on in a vhost for port 80',
    ">><VirtualHost *:80>\nServerName www.example.org\nAutocertEngine on\n</VirtualHost>\n",
    'AutocertEngine: this vhost is for port 80: move it to <VirtualHost *:443>, or write '
    . '"AutocertEngine off" in it');
$judge->fails_check('AutocertEngine on in a vhost without a port',
    ">><VirtualHost *>\nServerName www.example.org\nAutocertEngine on\n</VirtualHost>\n",
    'AutocertEngine: this vhost names no port: move it to <VirtualHost *:443>, or write '
    . '"AutocertEngine off" in it');
$judge->refuses('AutocertDomain outside a vhost', ">>AutocertDomain www.example.org\n",
    'AutocertDomain: belongs in <VirtualHost *:443>; for a server without virtual hosts write '
    . '"AutocertListener NAME" instead');

# One good use of each directive; those of the first list are for the whole server.
my %global = (
    AutocertListener => '8443 www.example.org', AutocertCA => 'letsencrypt', AutocertAcceptTOS => 'on',
    AutocertEmail => 'a@example.org', AutocertCache => 'dir:/x', AutocertMemory => '1M',
    AutocertDNSResolver => '192.0.2.53',
);
my %anywhere = (
    AutocertEngine => 'off', AutocertDomain => 'www.example.org', AutocertChallenges => 'http-01',
    AutocertDNSCommand => '/bin/true',
    AutocertKeyTypes => 'p256', AutocertCSRExtension => '1.2.3 0500', AutocertRenewBefore => '30d',
    AutocertRedirect => 'off', AutocertFallback => 'alert', AutocertDefaultHost => 'none',
);
for my $directive (sort keys %global) {
    $judge->refuses("$directive in a vhost", vhost(">>$directive $global{$directive}"),
        "$directive cannot occur within <VirtualHost> section");
}
# The sentence is httpd's and differs between its versions.
my $not_here = sub {
    my ($directive) = @_;
    return qr/\Q$directive\E not allowed (?:here|in <Location> context)\n/;
};
for my $directive (sort(keys %global, keys %anywhere)) {
    my $argument = $global{$directive} // $anywhere{$directive};
    $judge->refuses("$directive in <Location>",
        "<Location /x>\n>>$directive $argument\n</Location>\n", $not_here->($directive));
    $judge->refuses("$directive in <Location> of a vhost",
        vhost('<Location /x>', ">>$directive $argument", '</Location>'), $not_here->($directive));
}

# --- AutocertListener ---

my $one_name = 'needs at least one name, for example "AutocertListener www.example.org"';
$judge->refuses_lines('AutocertListener', ['', $one_name], ['8443', $one_name], ['192.0.2.1:8443', $one_name],
    ['[::1]:8443', $one_name]);
$judge->refuses('AutocertListener and a name with a port in front',
    ">>AutocertListener www.example.org:8443 b.example.org\n",
    "AutocertListener: \"www.example.org:8443\" has a character that host names cannot have: $example");
my $stands_there = 'AutocertListener: a <VirtualHost> for port 443 stands at {%d}: write '
    . '"AutocertDomain NAME" in it instead';
$judge->refuses('a vhost for its port stands above',
    vhost('ServerName a.example.org') . ">>AutocertListener www.example.org\n", sprintf $stands_there, 1);
$judge->refuses('a vhost for its port stands below',
    ">>AutocertListener 127.0.0.1:443 www.example.org\n" . vhost('ServerName a.example.org'),
    sprintf $stands_there, 2);
$judge->refuses('a vhost with several addresses has its port',
    "<VirtualHost *:80 *:443>\n</VirtualHost>\n>>AutocertListener www.example.org\n",
    sprintf $stands_there, 1);
$judge->refuses('AutocertListener on port 80', ">>AutocertListener 80 www.example.org\n", $for_80);

# --- The CA ---

spit("$root/open.pem", "secret\n", 0644);
spit("$root/group.pem", "secret\n", 0640);
spit("$root/writable.pem", "secret\n", 0602);
$judge->refuses_lines('AutocertCA',
    ['', 'needs the name of a CA or the URL of its directory, for example "AutocertCA letsencrypt"'],
    (map { [$_, "\"$_\" is neither a known CA (letsencrypt, letsencrypt-staging, zerossl, google, "
            . 'google-staging, sslcom, sslcom-rsa, actalis) nor the https URL of an ACME directory'] }
        'lets-encrypt', 'http://ca.example.org/dir', 'https:///dir', 'https://user@ca.example.org/dir',
        'acme.example.org', 'https://ca.example.org:x:y/'),
    # A misspelled key may have a secret behind it, which is not shown.
    (map { ["letsencrypt $_->[0]", "\"$_->[1]\" is not one of eab=FILE, cafile=FILE, profile=NAME, "
            . 'chain="ISSUER", email=ADDRESS, account=FILE, proxy=URL|none, orders=N/PERIOD, ari=on|off, '
            . 'test=on|off'] }
        ['colour=red', 'colour='], ['test', 'test'], ['cafile', 'cafile'], ['tests=on', 'tests='],
        ['eba=kid:c2VjcmV0', 'eba='], ['chain=ISRG Root X1', 'Root']),
    ['letsencrypt ari=yes', '"ari=yes": write "ari=on" or "ari=off"'],
    ['letsencrypt ari=', '"ari=": write "ari=on" or "ari=off"'],
    ['letsencrypt test=yes', '"test=yes": write "test=on" or "test=off"'],
    ['letsencrypt proxy=proxy:8080', '"proxy=proxy:8080" is no proxy: write "proxy=none" or '
        . '"proxy=http://HOST:PORT"'],
    ['letsencrypt cafile=missing.pem', '@root@/missing.pem does not exist: write the path of a PEM file'],
    ['letsencrypt cafile=open.pem/x', '@root@/open.pem/x does not exist: write the path of a PEM file'],
    ['letsencrypt cafile=/missing.pem', '/missing.pem does not exist: write the path of a PEM file'],
    ['letsencrypt cafile=conf', '@root@/conf is not a file: write the path of a PEM file'],
    ['letsencrypt account=missing.pem', '@root@/missing.pem does not exist: write the path of a PEM file'],
    (map { ["letsencrypt account=$_.pem", "\@root\@/$_.pem is a secret that others can read: "
            . "run \"chmod 600 \@root\@/$_.pem\""] } 'open', 'group', 'writable'),
    (map { ["letsencrypt eab=$_.pem", "\@root\@/$_.pem is a secret that others can read: "
            . "run \"chmod 600 \@root\@/$_.pem\""] } 'open', 'group', 'writable'),
    ['letsencrypt eab=missing.txt', '@root@/missing.txt does not exist: write the path of a file that holds '
        . '"KID KEY"'],
    ['letsencrypt eab=conf', '@root@/conf is not a file: write the path of a file that holds "KID KEY"'],
    (map { ["letsencrypt $_", 'the key id in front of the colon of "eab=" is empty or has a blank in it: '
            . 'write "eab=KID:KEY", or "eab=FILE"'] } 'eab=:c2VjcmV0', 'eab="a b:c2VjcmV0"',
        '"eab=a b:c2VjcmV0"'),
    (map { ["letsencrypt eab=kid:$_", 'the key behind the colon of "eab=" is not base64url: copy it as the CA '
            . 'shows it'] } '', 'a', '!!!!', 'c2VjcmV0=', 'a-b/', 'c2Vj===='),
    (map { ["letsencrypt $_->[0]", "\"profile=$_->[1]\": write the name of a profile as the CA has it, for "
            . 'example "profile=shortlived"'] }
        ['profile=', ''], ['profile=a/b', 'a/b'], ['profile="short lived"', 'short lived'],
        ["'profile=short lived'", 'short lived'], ["profile='short lived' test=on", 'short lived'],
        ['test=on profile="a\"b"', 'a"b'], ['profile=' . 'x' x 65, 'x' x 65]),
    (map { ["letsencrypt $_", '"chain=": write the common name of an issuer, for example chain="ISRG Root '
            . 'X1"'] } 'chain=', 'chain=""'),
    ['letsencrypt email=nobody', '"nobody" is not a mail address: write for example '
        . '"webmaster@example.org"'],
);
for my $case (
    ['a name', 'letsencrypt', 'letsencrypt'],
    ['a name in other letters', 'letsencrypt', 'LetsEncrypt test=on'],
    ['a name and its URL', 'google', 'https://DV.acme-v02.api.pki.goog/directory'],
    ['a URL', 'https://ca.example.org/dir', 'HTTPS://CA.example.org/dir orders=1/1h']) {
    my ($what, $one, $two) = @$case;
    my ($shown) = split / /, $two;
    $judge->refuses("the same CA twice: $what", "AutocertCA $one\n\nAutocertCA zerossl\n>>AutocertCA $two\n",
        "AutocertCA: \"$shown\" stands already at {1}: write each CA once");
}
my @eight = map { "AutocertCA https://ca$_.example.org/dir\n" } 1 .. 8;
$judge->refuses('nine AutocertCA lines', join('', @eight) . ">>AutocertCA letsencrypt\n",
    'AutocertCA: "letsencrypt" is one too many: write at most 8 lines');
$judge->fails_check('a special-use name when all CAs are public', "AutocertCA letsencrypt\n"
        . "AutocertCA zerossl eab=kid:c2VjcmV0\n" . vhost('>>AutocertDomain db.internal'),
    'AutocertDomain: "db.internal" is under "internal", for which no public CA issues: write a public name, '
    . 'or name a private CA with AutocertCA');

# Rates, and the durations in them.
my $units = 'write a number and a unit, for example "30s", "10mi", "12h" or "30d"';
for my $case (
    (map { [$_, "\"$_\" is not a rate: write a number of orders and a period, for example \"280/3h\""] }
        '', '20', '20 ', '/1h', '0/1h', '-1/1h', '1000001/1h', '20,1h', 'x/1h', '99999999999999999999/1h'),
    ['20/', "\"\" is not a duration: $units"],
    ['20/x', "\"x\" is not a duration: $units"],
    ['20/1', '"1" has no unit: write "1s", "1mi", "1h" or "1d"'],
    ['20/1m', '"1m" could be minutes or months: minutes are "mi", write "1mi"'],
    ['20/1w', '"1w" has an unknown unit: write ms, s, mi, h or d behind the number'],
    ['20/100ms', 'the period of "20/100ms" is shorter than a second: write "1s" or more'],
    ['20/0', 'the period of "20/0" is shorter than a second: write "1s" or more'],
    ['20/36501d', '"36501d" is longer than 100 years: write less']) {
    my ($value, $message) = @$case;
    $judge->refuses("AutocertCA orders=$value", ">>AutocertCA letsencrypt \"orders=$value\"\n",
        "AutocertCA: $message");
}

$judge->refuses_lines('AutocertAcceptTOS', ['yes', '"yes": write "on", "off", or the URL of the terms of service '
        . 'you agree to']);
for my $mail ('nobody', '@example.org', 'a@', 'a@b.c@d', 'a,b@example.org', 'a@example.org?x',
    '<a@example.org>', 'a%20b@example.org') {
    $judge->refuses_lines('AutocertEmail', [$mail, "\"$mail\" is not a mail address: write for example "
            . '"webmaster@example.org"']);
}

# --- The cache and memory ---

$judge->refuses_lines('AutocertCache',
    ['/var/cache', '"/var/cache" names no kind: write "dir:/var/cache"'],
    [':/var/cache', '":/var/cache" names no kind: write "dir:PATH"'],
    ['dir:', '"dir:" names no kind: write "dir:PATH"']);
my $managed = vhost('AutocertDomain www.example.org');
$judge->fails_check('AutocertCache of an unknown kind', ">>AutocertCache redis:localhost\n$managed",
    'AutocertCache: kind "redis" is unknown: write "dir:PATH", or load the module that brings it');
$judge->fails_check('AutocertCache with a file', ">>AutocertCache dir:\@root\@/open.pem\n$managed",
    'AutocertCache dir:@root@/open.pem is not a directory, write the path of a directory');
$judge->fails_check('AutocertCache below a file', ">>AutocertCache dir:open.pem/x\n$managed",
    'AutocertCache dir:@root@/open.pem/x stands below something that is not a directory, '
    . 'write the path of a directory');
for my $size ('0', '-1', '1T', '1MB', 'x', '1.5M', '99999999999999999999', '9999999999999G') {
    $judge->refuses_lines('AutocertMemory', [$size, "\"$size\" is not a size: write bytes, or a number with K, M or "
            . 'G, for example "128M"']);
}

# --- How names get certificates ---

$judge->refuses_lines('AutocertChallenges',
    ['', 'needs at least one of tls-alpn-01, http-01, dns-01, dns-persist-01'],
    (map { ["http-01 $_", "\"$_\" is unknown: write one or more of tls-alpn-01, http-01, dns-01, dns-persist-01"] }
        'dns-02', 'HTTP-01', 'dns-account-01'),
    ['http-01 tls-alpn-01 http-01', '"http-01" stands twice: write it once']);
for my $type ('p521', 'rsa1024', 'rsa', 'ed25519') {
    $judge->refuses_lines('AutocertKeyTypes', [$type, "\"$type\" is unknown: write one of p256, p384, rsa2048, "
            . 'rsa3072, rsa4096']);
}
my $not_oid = 'the first argument must be an object identifier like 1.3.6.1.5.5.7.1.24, with ",critical" '
    . 'behind it if clients must understand the extension';
my $not_der = 'the second argument must be the DER of the extension\'s value as an even number of '
    . 'hexadecimal digits, at most 8192, like 3003020105';
my $not_hex = 'the second argument must consist of hexadecimal digits only, like 3003020105';
$judge->refuses_lines('AutocertCSRExtension',
    ['mustStaple 3003020105', $not_oid], ['1.3.6.1.5.5.7.1.24,Critical 3003020105', $not_oid],
    ['1 3003020105', $not_oid], ['1.2.3 300', $not_der],
    ['1.2.3 ' . '00' x 4097, $not_der], ['1.2.3 30zz', $not_hex], ['1.2.3,critical 0x05', $not_hex]);
$judge->refuses_lines('AutocertRenewBefore',
    (map { [$_, "\"$_\" is out of range: write 1% to 90%"] } '0%', '91%'),
    ['0', '0 would renew when it is too late: write for example "33%" or "30d"'],
    ['1m', '"1m" could be minutes or months: minutes are "mi", write "1mi"'],
    ['30', '"30" has no unit: write "30s", "30mi", "30h" or "30d"'],
    ['30D', '"30D" has an unknown unit: write ms, s, mi, h or d behind the number'],
    ['1.5d', '"1.5d" has an unknown unit: write ms, s, mi, h or d behind the number'],
    (map { [$_, "\"$_\" is not a duration: $units"] } 'x', '-30d', '+30d'),
    ['36501d', '"36501d" is longer than 100 years: write less']);

# --- How clients are answered ---

$judge->refuses_lines('AutocertRedirect', ['on', '"on": write off, temporary or permanent']);
$judge->refuses_lines('AutocertFallback', ['none', '"none": write alert or placeholder']);
$judge->fails_check('AutocertDefaultHost that is not managed',
    vhost('AutocertDomain www.example.org', '>>AutocertDefaultHost Other.example.org'),
    'AutocertDefaultHost: no AutocertDomain lists "other.example.org": write one of its names, or "none"');
$judge->fails_check('AutocertDefaultHost of the server that is not managed',
    ">>AutocertDefaultHost other.example.org\n$managed",
    'AutocertDefaultHost: no AutocertDomain lists "other.example.org": write one of its names, or "none"');

# --- One name in two vhosts ---

my $differs = 'it stands in two vhosts with different AutocertChallenges, AutocertDNSCommand, '
    . 'AutocertKeyTypes, AutocertCSRExtension, AutocertRenewBefore or AutocertRetire: write the same in both, or name it in one only';
for my $line ('AutocertChallenges http-01', 'AutocertChallenges http-01 tls-alpn-01',
    'AutocertKeyTypes rsa2048', 'AutocertCSRExtension 1.3.6.1.5.5.7.1.24 3003020105',
    'AutocertChallenges dns-persist-01', 'AutocertRenewBefore 10d', 'AutocertRenewBefore 10%') {
    $judge->fails_check("one name in two vhosts, one with $line",
        vhost('AutocertDomain a.example.org www.example.org')
        . "<VirtualHost 192.0.2.1:8443>\n>>AutocertDomain www.example.org\n$line\n</VirtualHost>\n",
        $differs, name => 'www.example.org');
}

# --- Other modules ---

my $no_ssl = 'needs mod_ssl: run "a2enmod ssl", or write "LoadModule ssl_module modules/mod_ssl.so"';
my $modules = Autocert::Server::modules_dir();
my $load = join '', map { "LoadModule ${_}_module $modules/mod_$_.so\n" }
    grep { -e "$modules/mod_$_.so" } qw(unixd log_config watchdog authz_core mime);
my $without = Autocert::Configtest->new(name => 'without_ssl',
    load => $load . "LoadModule autocert_module $ENV{AUTOCERT_MODULE}\n");
$without->refuses('AutocertDomain without mod_ssl', vhost(">>AutocertDomain www.example.org"),
    "AutocertDomain: $no_ssl");
$without->refuses('AutocertListener without mod_ssl', ">>AutocertListener www.example.org\n",
    "AutocertListener: $no_ssl");
$without->refuses('AutocertEngine on without mod_ssl', ">>AutocertEngine on\n", "AutocertEngine: $no_ssl");
$without->accepts('AutocertEngine off needs no mod_ssl', "AutocertEngine off\n");

# Where mod_watchdog is built in, as Debian has it, the error cannot happen, which is shown instead.
if (-e "$modules/mod_watchdog.so") {
    (my $lines = $load) =~ s/^.*watchdog.*\n//m;
    my $alone = Autocert::Configtest->new(name => 'without_watchdog',
        load => $lines . "LoadModule ssl_module $modules/mod_ssl.so\n"
            . "LoadModule autocert_module $ENV{AUTOCERT_MODULE}\n");
    $alone->fails_check('mod_watchdog is missing', $managed,
        'mod_watchdog is missing: write "LoadModule watchdog_module modules/mod_watchdog.so"');
}
else {
    my ($status, $output) = run_program([Autocert::Server::vars()->{httpd}, '-l']);
    like $output, qr/^\s*mod_watchdog\.c$/m, 'mod_watchdog is built in and cannot be missing';
}

my $with_md = Autocert::Configtest->new(name => 'with_md', modules => ['md']);
my $md_too = 'mod_md manages it too ({%d}): remove it from MDomain, or write "AutocertEngine off" in '
    . 'the vhost';
my $vhost = vhost('ServerName www.example.org', '>>AutocertDomain a.example.org b.example.org');
for my $case (
    ['MDomain', "MDomain B.example.org\n", 'b.example.org'],
    ['MDomain with several names', "MDomain x.example.org a.example.org auto\n", 'a.example.org'],
    ['MDomain with the ServerName only', "MDomain www.example.org\n", 'www.example.org'],
    ['<MDomainSet>', "<MDomainSet a.example.org>\nMDMembers auto\n</MDomainSet>\n", 'a.example.org'],
    ['<MDomain>', "<MDomain x.example.org b.example.org>\n</MDomain>\n", 'b.example.org']) {
    my ($what, $lines, $name) = @$case;
    $with_md->fails_check("$what above", $lines . $vhost, sprintf($md_too, 1), name => $name);
    $with_md->fails_check("$what below", $vhost . $lines, sprintf($md_too, 5), name => $name);
}
$with_md->fails_check('MDMember in <MDomainSet>',
    "<MDomainSet x.example.org>\nMDMember y.example.org a.example.org\n</MDomainSet>\n$vhost",
    sprintf($md_too, 2), name => 'a.example.org');
$with_md->fails_check('MDomain in the vhost', vhost('>>AutocertDomain a.example.org',
        'MDomain a.example.org'), sprintf($md_too, 3), name => 'a.example.org');
$with_md->accepts('mod_md with other names', "MDomain other.example.org\n" . vhost('ServerName '
        . 'www.example.org', 'AutocertDomain a.example.org'));

# --- Several at once ---

my $said = $judge->judge(vhost('AutocertDomain a.local *.example.org'));
is scalar(() = $said->{output} =~ /AC0010/g), 2, 'all errors are named at once';

done_testing;
