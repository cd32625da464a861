# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# "httpd -t" and names on demand: every refusal and warning about AutocertHostPolicy, AutocertWait,
# AutocertClientLimit, AutocertRetire and a second key type, with its whole sentence.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Configtest qw(vhost);
use Autocert::Util qw(spit);

my $judge = Autocert::Configtest->new;
my $root = $judge->server->root;
my $names = spit("$root/conf/names", "www.example.org\n");

# --- AutocertHostPolicy ---

my $kinds = 'is unknown: write one of none, file PATH, match REGEX, ask URL, any';
my $file_words = '"file" wants the path of a file of names, and may be followed by "preload"';
my $ask_words = 'is no URL that can be asked: write http://HOST/PATH or https://HOST/PATH';
$judge->refuses_lines('AutocertHostPolicy',
    ['all', "\"all\" $kinds"],
    ['', "\"\" $kinds"],
    ['none x', '"none" stands alone: write "AutocertHostPolicy none"'],
    ['any x', '"any" stands alone: write "AutocertHostPolicy any"'],
    ['match', '"match" wants one pattern, for example "match shop[0-9]{1,4}[.]example[.]org"'],
    ['match a(b', '"a(b" is no regular expression: write for example "shop[0-9]{1,4}[.]example[.]org"'],
    ['file', $file_words],
    ["file $names twice", $file_words],
    ["file $names preload x", $file_words],
    ['file /nowhere/names', '/nowhere/names does not exist: make it, one name a line'],
    ["file $root", "$root is not a file: write the path of a file with one name a line"],
    ['ask', '"ask" wants a URL, for example "ask http://127.0.0.1:8080/may-have"'],
    (map { ["ask $_", "\"$_\" $ask_words"] } 'ftp://host/', 'http://', 'http:///path', '/path'),
    ['ask http://user:pass@host/', '"http://user:pass@host/" has a user before its host: write the URL without it; '
        . 'a secret for the endpoint may stand in the query'],
    (map { ["ask $_", "\"$_\" has \"domain=\" or \"ip=\" in its query, which are added to each question: write "
        . 'the URL without them'] } 'http://host/?domain=x', 'http://host/?a=b&ip=x'),
    ['ask unix:/run/ask', '"unix:/run/ask" is no URL of a socket: write '
        . '"unix:/path/of/socket|http://localhost/path"'],
    ['ask http://host/ colour=red', '"colour=red" is not one of cafile=FILE, timeout=DURATION'],
    ['ask http://host/ timeout=5', '"5" has no unit: write "5s", "5mi", "5h" or "5d"'],
    ['ask http://host/ timeout=0', '"timeout=0" leaves no time for an answer: write for example "timeout=5s"'],
    ['ask https://host/ cafile=/nowhere.pem', '/nowhere.pem does not exist: write the path of a PEM file'],
);
$judge->refuses('AutocertHostPolicy for port 80',
    "<VirtualHost *:80>\n>>AutocertHostPolicy file $names\n</VirtualHost>\n",
    'AutocertHostPolicy: belongs in <VirtualHost *:443>: this one is for port 80, and http-01 needs no line on '
    . 'port 80');
$judge->accepts('but none may stand there', "<VirtualHost *:80>\nAutocertHostPolicy none\n</VirtualHost>\n");
$judge->accepts('and lines of the server are inherited by no plain vhost',
    "AutocertHostPolicy file $names\n<VirtualHost *:80>\n</VirtualHost>\n");
for my $line ("file $names", "file $names preload", 'match shop[0-9]{1,4}\.example\.org',
    'ask http://127.0.0.1:8080/may-have', 'ask https://host.example.org/?key=x timeout=2s',
    'ask unix:/run/ask|http://localhost/may') {
    $judge->accepts("AutocertHostPolicy $line", vhost("AutocertHostPolicy $line"));
}
$judge->fails_check('any without a limit', vhost('>>AutocertHostPolicy any'),
    'AutocertHostPolicy: "any" lets every stranger cause orders: write "AutocertClientLimit 20 1h" in server '
    . 'config, or "AutocertClientLimit none" if you mean it');
$judge->accepts("any with $_", "AutocertClientLimit $_\n" . vhost('AutocertHostPolicy any')) for '20 1h', 'none';

for my $pattern ('.*\.example\.org', '[a-z]+\.example\.org', '[a-z]{2,}\.example\.org') {
    (my $shown = $pattern) =~ s/\\/\\\\/g;    # as httpd shows it
    $judge->warns("an unbounded pattern: $pattern", vhost(">>AutocertHostPolicy match $pattern"),
        ["AutocertHostPolicy: the pattern \"$shown\" allows any number of names, so strangers can cause "
            . 'orders until AutocertClientLimit and the order budget stop them: bound it, for example with '
            . '"{1,8}", or write "file" or "ask"']);
}
$judge->accepts("a bounded one: $_", vhost("AutocertHostPolicy match $_"))
    for '[a-z+*]{1,9}\.example\.org', 'a\+b?\.example\.org';

my $unreached = 'AutocertHostPolicy: names that no vhost has go to the first one of this address, so these '
    . 'lines see none: write "ServerAlias *" in this vhost, or put it first';
my $first = vhost('ServerName first.example.org');
my $policy = "AutocertHostPolicy file $names";
$judge->warns('a policy that no name reaches', $first . vhost('ServerName second.example.org', ">>$policy"),
    [$unreached]);
$judge->accepts('one that names reach by ServerAlias', $first . vhost('ServerAlias *', $policy));
$judge->accepts('one in the first vhost', vhost($policy) . vhost('ServerName second.example.org'));
$judge->accepts('one on another address', "Listen 8443\n" . $first . "<VirtualHost *:8443>\n$policy\n"
        . "</VirtualHost>\n");

# --- Limits ---

my $limit_words = 'write "N PERIOD", "N PERIOD except NETWORK ..." or "none", for example "20 1h"';
$judge->refuses_lines('AutocertClientLimit',
    ['20', $limit_words], ['', $limit_words], ['20 1h but 10.0.0.0/8', $limit_words],
    ['20 1h except', $limit_words],
    ['0 1h', '"0" does not say how many orders: write a number from 1 to 1000000'],
    ['-3 1h', '"-3" does not say how many orders: write a number from 1 to 1000000'],
    ['20 1m', '"1m" could be minutes or months: minutes are "mi", write "1mi"'],
    ['20 3', '"3" has no unit: write "3s", "3mi", "3h" or "3d"'],
    ['20 31d', 'the period "31d" is out of range: write 1s to 30d'],
    ['20 0', 'the period "0" is out of range: write 1s to 30d'],
    ['20 1h except here', '"here" is no network: write for example "192.0.2.0/24" or "2001:db8::/32"'],
);
$judge->accepts("AutocertClientLimit $_", "AutocertClientLimit $_\n")
    for 'none', '1 1s', '20 1h except 192.0.2.0/24 2001:db8::/32 198.51.100.7';
$judge->refuses_lines('AutocertWait',
    ['5', '"5" has no unit: write "5s", "5mi", "5h" or "5d"'],
    ['6mi', '"6mi" is longer than any client waits: write 5mi or less'],
    ['5s 0', '"0" does not say how many handshakes may wait: write a number from 1 to 1000000'],
    ['5s many', '"many" does not say how many handshakes may wait: write a number from 1 to 1000000'],
);
$judge->accepts("AutocertWait $_", "AutocertWait $_\n") for '0', '500ms', '5mi 100';
$judge->refuses_lines('AutocertRetire',
    ['30', '"30" has no unit: write "30s", "30mi", "30h" or "30d"'],
    ['0', '0 would never renew a name on demand: write for example "30d"'],
);
$judge->accepts('AutocertRetire 90d', "AutocertRetire 90d\n");
for my $pair ('p256 p384', 'rsa2048 rsa4096', 'p256 P-256') {
    $judge->refuses("AutocertKeyTypes $pair", ">>AutocertKeyTypes $pair\n",
        "AutocertKeyTypes: \"$pair\" are of one kind, and the second is for clients that cannot use the first: "
        . 'write for example "p256 rsa2048"');
}
$judge->accepts("AutocertKeyTypes $_", "AutocertKeyTypes $_\n") for 'p256 rsa2048', 'rsa3072 p384';
for my $line ('AutocertClientLimit none', 'AutocertWait 5s', 'AutocertRetire 9d', 'AutocertHostPolicy none') {
    (my $directive) = split / /, $line;
    my $said = $judge->judge("<Directory />\n$line\n</Directory>\n");
    isnt $said->{status}, 0, "$directive: not in <Directory>";
}
is_deeply [$judge->judge(vhost('AutocertClientLimit none'))->{status} == 0 ? 'accepted' : 'refused'], ['refused'],
    'AutocertClientLimit: in server config only';

done_testing;
