# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The programs of contrib/dns: what they ask of an HTTP API, of aws and of nsupdate; that several
# values stand at one name, that failures are told, and that no secret is in the arguments of a program.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Cwd ();
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();

use Autocert::Util qw(build_dir free_ports on_exit reap_within run_program scratch slurp spit);

use constant {
    FQDN   => '_acme-challenge.www.example.org.',
    FIRST  => '-n_BhqV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0',
    SECOND => '--help8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX01',
    SECRET => 's3cret"\\word',
};

my $contrib = Cwd::abs_path(build_dir() . '/..') . '/contrib/dns';
my $dir = scratch() . "/dns-scripts.$$";
mkdir $dir or die "$dir: $!\n";
mkdir "$dir/bin" or die "$dir/bin: $!\n";
my $json = JSON::PP->new->canonical;
my $port = free_ports(1);
my $url = "http://127.0.0.1:$port";

# --- the server: answers as $dir/state says and writes each request to $dir/requests -------------

sub read_json
{
    my ($file, $default) = @_;
    my $text = slurp("$dir/$file");
    return defined $text ? $json->decode($text) : $default;
}

sub write_json
{
    my ($file, $value) = @_;
    spit("$dir/$file.new", $json->encode($value));
    rename "$dir/$file.new", "$dir/$file" or die "rename: $!\n";
    return;
}

# Cloudflare, as far as the program needs it: one zone, records in the file "records".
sub cloudflare
{
    my ($method, $path, $body) = @_;
    my $records = read_json('records', []);
    my %ok = (success => JSON::PP::true, errors => []);
    if ($path =~ m{^/zones\?name=(.*)}) {
        return { %ok, result => $1 eq 'example.org' ? [{ id => 'z1' }] : [] };
    }
    if ($method eq 'GET' && $path =~ m{^/zones/z1/dns_records\?type=TXT&per_page=100&name=(.*)}) {
        my $name = $1;
        return { %ok, result => [grep { $_->{name} eq $name } @$records] };
    }
    if ($method eq 'POST' && $path eq '/zones/z1/dns_records') {
        my $record = $json->decode($body);
        $record->{id} = 'r' . (1 + @$records);
        write_json('records', [@$records, $record]);
        return { %ok, result => $record };
    }
    if ($method eq 'DELETE' && $path =~ m{^/zones/z1/dns_records/(r\d+)$}) {
        my $id = $1;
        write_json('records', [grep { $_->{id} ne $id } @$records]);
        return { %ok, result => {} };
    }
    return { success => JSON::PP::false, errors => [{ code => 7003, message => 'no such route' }] };
}

sub serve_one
{
    my ($client) = @_;
    my $text = '';
    while ($text !~ /\r\n\r\n/) {
        sysread $client, $text, 4096, length $text or return;
    }
    my ($head, $body) = split /\r\n\r\n/, $text, 2;
    my ($length) = $head =~ /^Content-Length:\s*(\d+)/mi;
    while (length $body < ($length // 0)) {
        sysread $client, $body, 4096, length $body or return;
    }
    my ($method, $path) = $head =~ m{^(\S+) (\S+)};
    my %headers = map { /^([^:]+):\s*(.*)$/ ? (lc $1 => $2) : () } split /\r\n/, $head;
    my $requests = read_json('requests', []);
    write_json('requests', [@$requests, { method => $method, path => $path, body => $body,
        headers => \%headers }]);
    my $refusal = read_json('refusal', undef);
    my ($status, $answer) = $refusal ? @$refusal
        : (200, $path =~ s{^/cf/}{/}r ne $path ? $json->encode(cloudflare($method, substr($path, 3),
                $body)) : '{}');
    syswrite $client, "HTTP/1.1 $status Word\r\nContent-Length: " . length($answer)
        . "\r\nConnection: close\r\n\r\n$answer";
    return;
}

sub start_server
{
    my $listener = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1', LocalPort => $port,
        Proto => 'tcp', ReuseAddr => 1) // die "listen: $@\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        $SIG{TERM} = 'DEFAULT';
        for (;;) {
            my $client = $listener->accept or next;
            serve_one($client);
            close $client;
        }
        POSIX::_exit(0);
    }
    close $listener;
    spit(scratch() . "/pids/$pid", "dns-scripts\n") if -d scratch() . '/pids';
    on_exit(sub { kill 'KILL', $pid; reap_within($pid, 10) });
    return;
}

# --- programs that stand in for others --------------------------------------------------------

sub stand_in
{
    my ($name, $text) = @_;
    spit("$dir/bin/$name", "#!/bin/sh\nD='$dir'\n$text", 0755);
    return;
}

# A wrapper writes down how curl was called, for the look at the arguments.
my ($curl) = grep { -x } map { "$_/curl" } split /:/, $ENV{PATH};
stand_in('curl', "printf '%s\\n' \"\$*\" >>\$D/arguments\nexec $curl \"\$@\"\n");
stand_in('nsupdate', <<'END');
printf '%s\n' "$*" >>$D/arguments
cat >$D/nsupdate
rm -f $D/key
while [ $# -gt 0 ]; do [ "$1" != -k ] || { cp "$2" $D/key; stat -c %a "$2" "${2%/*}" >$D/modes; }; shift; done
[ ! -e $D/broken ] || { echo 'update failed: REFUSED'; exit 2; }
END
# Route 53 with the zones "example.org." and a private "www.example.org.", its one record set in "set".
stand_in('aws', <<'END');
printf '%s\n' "$*" >>$D/arguments
cp "$AWS_SHARED_CREDENTIALS_FILE" $D/credentials
[ ! -e $D/broken ] || { echo 'An error occurred (AccessDenied)' >&2; exit 254; }
[ "$1 $2 $3" = '--output json route53' ] || exit 9
shift 3
case $1 in
list-hosted-zones-by-name)
    echo '{"HostedZones":[{"Name":"example.org.","Id":"/hostedzone/Z1","Config":{"PrivateZone":false}},
        {"Name":"www.example.org.","Id":"/hostedzone/Z2","Config":{"PrivateZone":true}}]}' ;;
list-resource-record-sets)
    [ "$3" = Z1 ] || exit 9
    { [ -s $D/set ] && cat $D/set || echo '{"Name":"z.example.org.","Type":"A"}'; } | jq '{ResourceRecordSets:[.]}' ;;
change-resource-record-sets)
    batch=${5#file://}
    if [ -e $D/race ]; then
        rm $D/race
        jq '.ResourceRecords += [{Value:"\"other\""}]' $D/set >$D/new && mv $D/new $D/set
    fi
    : >>$D/set
    old=$(jq -c '[.Changes[] | select(.Action == "DELETE") | .ResourceRecordSet]' "$batch")
    [ "$old" = "$(jq -sc . $D/set)" ] || { echo '(InvalidChangeBatch)' >&2; exit 254; }
    jq -c '.Changes[] | select(.Action == "CREATE") | .ResourceRecordSet' "$batch" >$D/set
    echo '{"ChangeInfo":{"Id":"/change/C1","Status":"PENDING"}}' ;;
get-change) echo '{"ChangeInfo":{"Id":"/change/C1","Status":"INSYNC"}}' ;;
*) exit 9 ;;
esac
END

my %env = (PATH => "$dir/bin:$ENV{PATH}", map { $_ => undef } qw(AWS_PROFILE AWS_CONFIG_FILE HOME));

# (status, output) of a program of contrib/dns that is given the secret.
sub run
{
    my ($secret, $name, @arguments) = @_;
    spit("$dir/secret", $secret, 0600);
    return run_program(['sh', '-c', 'exec "$@" <"$0"', "$dir/secret", "$contrib/$name", @arguments],
        env => \%env);
}

sub succeeds
{
    my ($what, @call) = @_;
    my ($status, $text) = run(@call);
    is("$status $text", '0 ', $what);
    return;
}

sub fails
{
    my ($what, $wanted, $pattern, @call) = @_;
    my ($status, $text) = run(@call);
    is($status, $wanted, "$what: exit status");
    like($text, $pattern, "$what: message");
    return;
}

sub requests
{
    my $requests = read_json('requests', []);
    unlink "$dir/requests";
    return @$requests;
}

sub contents { return join ' ', map { $_->{content} } @{ read_json('records', []) } }
sub set_values { return join ' ', map { $_->{Value} } @{ read_json_or_none('set')->{ResourceRecords} // [] } }
sub read_json_or_none { return -s "$dir/$_[0]" ? read_json($_[0], {}) : {} }

start_server();

# http
succeeds('http: present', SECRET . ':' . SECRET, 'http', "url=$url/hook/", 'present', FQDN, FIRST);
succeeds('http: cleanup', '', 'http', "url=$url/hook", 'cleanup', FQDN, SECOND);
succeeds('http: bearer', SECRET . "\n", 'http', "url=$url", 'auth=bearer', 'present', FQDN, FIRST);
my @requests = requests();
is_deeply([map { "$_->{method} $_->{path}" } @requests],
    ['POST /hook/present', 'POST /hook/cleanup', 'POST /present'], 'http: what is asked');
is_deeply($json->decode($requests[0]{body}), { fqdn => FQDN, value => FIRST }, 'http: JSON');
require MIME::Base64;
is($requests[0]{headers}{authorization}, 'Basic ' . MIME::Base64::encode_base64(SECRET . ':' . SECRET, ''),
    'http: basic');
is($requests[1]{headers}{authorization}, undef, 'http: none');
is($requests[2]{headers}{authorization}, 'Bearer ' . SECRET, 'http: bearer');
write_json('refusal', [503, 'out of order']);
fails('http: refused', 1, qr/is 503: out of order/, '', 'http', "url=$url", 'present', FQDN, FIRST);
fails('http: nobody there', 1, qr/http: POST http.*present: \S/, '', 'http', 'url=http://127.0.0.1:1', 'present',
    FQDN, FIRST);

# acme-dns
my %account = (username => 'u', password => SECRET, subdomain => 'd420c923-bbd7', allowfrom => []);
fails('acme-dns: refused', 1, qr/update is 503/, $json->encode(\%account), 'acme-dns', "url=$url", 'present',
    FQDN, FIRST);
unlink "$dir/refusal", "$dir/requests";
succeeds('acme-dns: one account', $json->encode(\%account), 'acme-dns', "url=$url/", 'present', FQDN, FIRST);
succeeds('acme-dns: one of many', $json->encode({ 'www.example.org' => \%account, 'a.example' => {} }), 'acme-dns',
    "url=$url", 'present', FQDN, SECOND);
succeeds('acme-dns: cleanup', '', 'acme-dns', "url=$url", 'cleanup', FQDN, FIRST);
@requests = requests();
is_deeply([map { "$_->{method} $_->{path}" } @requests], [('POST /update') x 2], 'acme-dns: what is asked');
is($requests[0]{headers}{'x-api-user'} . ' ' . $requests[0]{headers}{'x-api-key'}, 'u ' . SECRET,
    'acme-dns: who asks');
is_deeply([map { $json->decode($_->{body}) } @requests],
    [map { { subdomain => 'd420c923-bbd7', txt => $_ } } FIRST, SECOND], 'acme-dns: JSON');
fails('acme-dns: no account', 1, qr/no account for www\.example\.org/, '{"a.example":{}}', 'acme-dns', "url=$url",
    'present', FQDN, FIRST);

# Cloudflare
my @cloudflare = (SECRET, 'cloudflare', "url=$url/cf");
succeeds('cloudflare: present', @cloudflare, 'present', FQDN, FIRST);
succeeds('cloudflare: a second value', @cloudflare, 'zone=example.org', 'present', FQDN, SECOND);
succeeds('cloudflare: once more', @cloudflare, 'present', FQDN, SECOND);
is(contents(), '"' . FIRST . '" "' . SECOND . '"', 'cloudflare: both are there, once');
is((requests())[0]{headers}{authorization}, 'Bearer ' . SECRET, 'cloudflare: token');
succeeds('cloudflare: cleanup', @cloudflare, 'cleanup', FQDN, FIRST);
is(contents(), '"' . SECOND . '"', 'cloudflare: the other one stays');
succeeds('cloudflare: cleanup of what is gone', @cloudflare, 'cleanup', FQDN, FIRST);
fails('cloudflare: no zone', 1, qr/no zone that _acme-challenge\.a\.test\. lies in/, @cloudflare, 'present',
    '_acme-challenge.a.test.', FIRST);
write_json('refusal', [403, '{"success":false,"errors":[{"code":9109,"message":"Invalid access token"}]}']);
fails('cloudflare: refused', 1, qr/403: 9109 Invalid access token/, @cloudflare, 'present', FQDN, FIRST);
unlink "$dir/refusal";
fails('cloudflare: no token', 2, qr/no token/, '', 'cloudflare', 'present', FQDN, FIRST);

# Route 53
my @route53 = ("[default]\naws_secret_access_key=" . SECRET . "\n", 'route53');
succeeds('route53: present', @route53, 'present', FQDN, FIRST);
is(slurp("$dir/credentials"), $route53[0], 'route53: credentials');
spit("$dir/race", '');
succeeds('route53: a second value, while another program adds one', @route53, 'zone=Z1', 'present', FQDN, SECOND);
is(set_values(), join(' ', map { "\"$_\"" } sort(FIRST(), SECOND(), 'other')), 'route53: all are there');
succeeds('route53: once more', @route53, 'present', FQDN, SECOND);
succeeds('route53: cleanup', @route53, 'cleanup', FQDN, FIRST);
is(set_values(), '"' . SECOND . '" "other"', 'route53: the others stay');
succeeds('route53: cleanup', @route53, 'cleanup', FQDN, $_) for FIRST, SECOND, 'other';
is(set_values(), '', 'route53: none is left');
spit("$dir/broken", '');
fails('route53: refused', 1, qr/AccessDenied/, @route53, 'present', FQDN, FIRST);

# nsupdate
my $key = 'key "k" { algorithm hmac-sha256; secret "' . SECRET . "\"; };\n";
my @nsupdate = ($key, 'nsupdate', 'server=192.0.2.53');
fails('nsupdate: refused', 1, qr/present of \S+ at 192\.0\.2\.53 failed: update failed: REFUSED/, @nsupdate, 'present',
    FQDN, FIRST);
unlink "$dir/broken";
succeeds('nsupdate: present', @nsupdate, 'port=5353', 'zone=example.org', 'ttl=30', 'present', FQDN, FIRST);
is(slurp("$dir/nsupdate"), "server 192.0.2.53 5353\nzone example.org\nupdate add " . FQDN . ' 30 IN TXT "' . FIRST
    . "\"\nsend\n", 'nsupdate: what is asked');
is(slurp("$dir/key"), $key, 'nsupdate: key');
is(slurp("$dir/modes"), "600\n700\n", 'nsupdate: nobody else can read it');
succeeds('nsupdate: cleanup, no key', '', @nsupdate[1 .. 2], 'cleanup', FQDN, SECOND);
is(slurp("$dir/nsupdate"), "server 192.0.2.53 53\nupdate delete " . FQDN . ' IN TXT "' . SECOND . "\"\nsend\n",
    'nsupdate: this value only');
ok(!-e "$dir/key", 'nsupdate: no key');

# All: strict arguments, no secret where others see it, no file left.
my %options = (http => ["url=$url"], 'acme-dns' => ["url=$url"], cloudflare => ["url=$url/cf"], route53 => [],
    nsupdate => ['server=192.0.2.53']);
unlink "$dir/requests";
my $calls = slurp("$dir/arguments");
$env{TMPDIR} = "$dir/tmp";
mkdir "$dir/tmp" or die "$dir/tmp: $!\n";
for my $name (sort keys %options) {
    my @begin = ('x:y', $name, @{ $options{$name} });
    for my $wrong ([], ['present', FQDN], ['renew', FQDN, FIRST], ['present', 'example.org.', FIRST],
        ['present', '_a.example', FIRST], ['present', "_a\nb.", FIRST], ['present', FQDN, 'a b'],
        ['present', FQDN, ''], ['present', FQDN, 'a"b'], ['--x', 'present', FQDN, FIRST]) {
        my ($status, $text) = run(@begin, @$wrong);
        ok($status == 2 && $text =~ /^\Q$name\E: usage: /, "$name: refuses [" . ("@$wrong" =~ s/\n/\\n/r) . ']') or diag "$status $text";
    }
    run(@begin, 'present', FQDN, FIRST);
}
is(join(' ', glob "$dir/tmp/*"), '', 'no file is left');
unlike($calls, qr/s3cret|word/, 'no secret is in the arguments of a program');
is(system("sh -n $contrib/$_"), 0, "$_: sh -n") for sort keys %options;

done_testing();
